"""Bases from elsewhere: a folder on this machine, or a revision on the Hugging Face hub; copied file by file."""

import re
from pathlib import Path

import httpx
from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled
from ruamel.yaml.error import YAMLError

from tuneline.core import bounded_yaml, files
from tuneline.errors import ModelError, as_full_disk_error, one_line
from tuneline.modeling import model_folder, models
from tuneline.modeling.model_folder import MODE_FILE, stored_mode

_COPIED = ("*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "LICENSE*", "NOTICE*")
"""What a model folder may bring: no code and no pickle."""
_REVISION = re.compile(r"[0-9a-f]{40}")
_SECONDS_TO_CONNECT = 10
_SNAPSHOTS = "snapshots"
"""The folder of revisions in what the hub's library keeps of a model."""


def copy(source: Path, folder: Path) -> None:
    """Copy a model folder after it was loaded once.

    Args:
        source: what save_pretrained wrote.
        folder: the folder to be made or replaced.

    Raises:
        ModelError: it is no model with a tokenizer that transformers knows, it holds what is not its own, or somebody
            changed it meanwhile; all problems at once.
    """
    if source.is_dir() and (strangers := model_folder.strangers(source)):
        raise ModelError(*strangers)
    before = {path: files.sha256_file(path) for path in _copied(source)}
    try:
        models.load_base(source)
        mode = stored_mode(source)
    except ModelError as error:
        if source.parent.name != _SNAPSHOTS:
            raise
        remedy = f"what was fetched may be cut off: delete {source.parents[1]}, and run the same command again"
        raise ModelError(*error.problems, remedy) from None
    with files.atomic_folder(folder) as beside:
        # What is copied is what was loaded.
        for path, digest in before.items():
            try:
                files.copy(path, beside / path.name)
            except FileNotFoundError:
                raise _changed(path) from None
            if files.sha256_file(beside / path.name) != digest:
                raise _changed(path)
        if new := set(_copied(source)) ^ before.keys():
            raise _changed(*new)
        files.write_json(beside / MODE_FILE, {"mode": mode})


def _copied(source: Path) -> list[Path]:
    return sorted({path for pattern in _COPIED for path in source.glob(pattern) if path.is_file()})


def _changed(*paths: Path) -> ModelError:
    remedy = "changed while it was copied; let nobody write there, and run the same command again"
    return ModelError(*(f"{path}: {remedy}" for path in sorted(paths)))


def fetch(reference: Path, cache: Path) -> Path:
    """Fetch the revision that a YAML file names; one that is in the cache needs no network.

    Args:
        reference: a YAML file of `id` and `revision`.
        cache: where downloads are kept.

    Returns:
        The folder of the snapshot.

    Raises:
        ModelError: the file is wrong, the hub does not answer or does not have it.
    """
    name, revision = read_reference(reference)
    try:
        return Path(
            snapshot_download(
                name,
                revision=revision,
                cache_dir=cache,
                allow_patterns=list(_COPIED),
                etag_timeout=_SECONDS_TO_CONNECT,
            )
        )
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled, httpx.HTTPError, OSError) as error:
        if isinstance(error, OSError) and as_full_disk_error(error):
            raise
        raise ModelError(_why_not_fetched(name, revision, reference, error)) from None


def read_reference(reference: Path) -> tuple[str, str]:
    """The id and the full revision that a YAML file names.

    Raises:
        ModelError: one of them is missing or is a branch's name; all problems at once.
    """
    try:
        # Only text: a revision of digits, or of digits around an e, would become a number.
        value = bounded_yaml.load(reference.read_text("utf-8"), "base")
    except FileNotFoundError:
        raise ModelError(f"{reference}: no such file; write `id: OWNER/NAME` and `revision: COMMIT` into it") from None
    except (YAMLError, UnicodeDecodeError, IsADirectoryError) as error:
        raise ModelError(f"{reference}: cannot be read as YAML: {one_line(error)}") from None
    value = value if isinstance(value, dict) else {}
    name, revision = value.get("id"), value.get("revision")
    problems = [
        f"{reference}: {key}: unknown key; known: id, revision" for key in value if key not in ("id", "revision")
    ]
    if not isinstance(name, str) or not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        problems.append(f"{reference}: id: {name!r} is no id of the hub; write it as OWNER/NAME")
    if not isinstance(revision, str) or not _REVISION.fullmatch(revision):
        found = f"{revision!r} can point to another model tomorrow" if revision else "missing"
        problems.append(
            f"{reference}: revision: {found}; write the commit's 40 hex digits, as "
            f"`git ls-remote https://huggingface.co/{name or 'OWNER/NAME'} {revision or 'HEAD'}` prints them"
        )
    if problems:
        raise ModelError(*problems)
    return str(name), str(revision)


def _why_not_fetched(name: str, revision: str, reference: Path, error: Exception) -> str:
    status = getattr(getattr(error, "response", None), "status_code", None)
    if status in (401, 403, 404):
        return (
            f"{reference}: the hub does not give {name} at {revision} (status {status}); check id and revision, "
            "and for a gated model set HF_TOKEN"
        )
    return (
        f"{reference}: {name} at {revision[:12]} is not in the cache and the hub does not answer; connect, or fetch it "
        "elsewhere and set base.source: path"
    )
