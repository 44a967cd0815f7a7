"""Print all about a version: verdict, numbers, data, base, code, environment, aliases, claims and history."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tuneline.decisions.about_version import About, Number
from tuneline.evaluation.comparison import MODELS
from tuneline.params.gate import METRICS
from tuneline.proofs import keys

_LIBRARIES = ("torch", "transformers", "tokenizers", "peft", "trl", "mlflow")
"""The packages that people ask for first."""
_SHORT = 12


def lines(about: About) -> Iterator[str]:
    """What `tuneline show` prints.

    Args:
        about: all about the version.
    """
    aliases = f" ({', '.join(about.aliases)})" if about.aliases else ""
    yield f"{about.model} version {about.version}{aliases}, registered {about.registered}"
    if about.erased:
        yield f"  erased: {about.erased}"
    if about.broken:
        yield f"  broken: {about.broken}"
    yield from _section("verdict", _verdicts(about))
    measured = f" on {about.rows:,} test rows" if about.rows is not None else ""
    yield from _section(f"measured{measured}", map(_number, about.numbers))
    yield from _section("made from", _origin(about))
    yield from _section("files", _files(about))
    yield from _section(
        "promotion", (f"{name.partition('.')[2]}: {value}" for name, value in about.promotion.items() if value)
    )
    yield from _section("claims", map(_claim, about.claims))
    yield from _section("history", map(_entry, about.history))
    yield from _section("unknown", about.notes)


def _section(title: str, content: Iterable[str]) -> Iterator[str]:
    found = list(content)
    if found:
        yield ""
        yield title
        yield from (f"  {line}" for line in found)


def _verdicts(about: About) -> Iterator[str]:
    if not about.verdicts:
        yield "none: tuneline did not register this version"
        return
    first, *later = about.verdicts
    yield first
    yield from (f"- {reason}" for reason in about.reasons)
    yield from (f"verdict no. {number}: {verdict}" for number, verdict in enumerate(later, 2))


def _number(one: Number) -> str:
    """For example `Bits per byte 1.4400 (Base 1.8370, −0.3970, 95 % interval −0.4220 to −0.3750)`."""
    digits = METRICS[one.metric].digits
    parts = [f"{MODELS[name][0]} {value:.{digits}f}" for name, value in one.others.items()]
    for name, bounds in one.versus.items():
        text = f"minus {_other(name)}: {_signed(bounds['difference'], digits)}" if "difference" in bounds else ""
        if "low" in bounds and "high" in bounds:
            text += f", 95 % interval {_signed(bounds['low'], digits)} to {_signed(bounds['high'], digits)}"
        parts += [text] if text else []
    return f"{one.name} {one.value:.{digits}f}" + (f" ({'; '.join(parts)})" if parts else "")


def _other(name: str) -> str:
    without = name.removeprefix("without_")
    return name if without == name else f"the training without some rows ({without})"


def _signed(value: float, digits: int) -> str:
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "−")


def _origin(about: About) -> Iterator[str]:
    rows = about.data.get("train_rows")
    trained = f", {rows:,} train rows" if rows is not None else ""
    yield f"task {about.task}" if about.task else "task unknown"
    yield f"data {about.data['set'] or 'unknown'}{trained}, sha256 {_short(about.data['sha256'])}"
    if parents := about.base["parents"]:
        yield f"merged from {' and '.join(f'version {parent}' for parent in parents)}"
    yield f"base {about.base['base'] or 'unknown'}, sha256 {_short(about.base['sha256'])}"
    yield f"code {_code(about.code)}"
    packages: Mapping[str, str] = about.environment["packages"]
    named = ", ".join(f"{name} {packages[name]}" for name in _LIBRARIES if name in packages)
    pinned = f", {len(packages)} packages: {named}, …" if packages else ""
    yield f"environment sha256 {_short(about.environment['sha256'])}{pinned}"
    if about.run:
        yield f"training run {about.run}"


def _code(code: Mapping[str, Any]) -> str:
    known = {"true": " with changes that were not committed", "false": "", None: ""}
    dirty = known.get(code["uncommitted_changes"], f" ({code['uncommitted_changes']})")
    text = f"commit {_short(code['commit'])}{dirty}"
    if code["source_commit"]:
        text += (
            f"; all sources: {_short(code['source_commit'])} (git show {code['ref'] or _short(code['source_commit'])})"
        )
    if code["kept_in_commit"]:
        text += f"; committed later as {_short(code['kept_in_commit'])}"
    return text


def _files(about: About) -> Iterator[str]:
    digests = f"folder sha256 {_short(about.files['sha256'])}, model sha256 {_short(about.files['model_sha256'])}"
    yield f"{digests} (as registered; `tuneline doctor` hashes the files)"
    # A tag can be edited, and show does not read every byte.
    signer = about.files["signed_by"]
    yield f"signed by {signer}, says its tag; tuneline doctor checks the signature" if signer else _unsigned()


def _unsigned() -> str:
    if not keys.trusted_keys():
        return "not signed"
    return f"not signed: with a key in {keys.TRUSTED} it cannot be promoted without --override REASON"


def _claim(claim: Mapping[str, Any]) -> str:
    if claim["signer"]:
        return f"{claim['type']}, signed by {claim['signer']}"
    return f"{claim['type']}, {'signed by an unknown key' if claim['is_signed'] else 'not signed'}"


def _entry(entry: Mapping[str, Any]) -> str:
    alias = f" {entry['alias']}" if entry["alias"] else ""
    moved = f" {entry['before'] or 'none'} → {entry['after'] or 'none'}" if entry["before"] != entry["after"] else ""
    reason = f": {entry['reason']}" if entry["reason"] else ""
    counts = "" if entry["counts"] else " (unsigned, does not count)"
    return f"{entry['time']} {entry['action']}{alias}{moved} by {entry['who']}{counts}{reason}"


def _short(text: str | None) -> str:
    return "unknown" if not text else text[:_SHORT]
