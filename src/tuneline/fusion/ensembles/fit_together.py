"""Whether versions can be an ensemble on today's rows: one task, the same labels, and for tokens one tokenizer."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa

from tuneline import params
from tuneline.core import files
from tuneline.data.records.record_form import RecordForm
from tuneline.encoding.examples import CHAT, PLAIN, Example
from tuneline.errors import ModelError
from tuneline.fusion.ensembles.ensemble_rows import Member
from tuneline.fusion.ensembles.mixtures import MIXTURES, Encode
from tuneline.gate import compatibility
from tuneline.modeling.model_folder import stored_mode

_PREFERENCE = (
    "task preference has no ensembles: a reward is counted from the base of one model, and the members may have "
    "different bases; merge them instead"
)


def task_problem(p: params.Params) -> str | None:
    """Why the task of params.yaml has no ensembles; None where it has."""
    return None if p.task in MIXTURES else _PREFERENCE


def problems(p: params.Params, form: RecordForm, members: Sequence[Member]) -> list[str]:
    """Why these versions cannot be an ensemble, a sentence each. Loads no model.

    Args:
        p: the params.
        form: of the clean rows.
        members: at least one version.
    """
    if p.task not in MIXTURES:
        return [_PREFERENCE]
    needed = p.task if form.labelled else CHAT if form.conversational else PLAIN
    found, fitting = [], []
    for member in members:
        mode = stored_mode(member.folder)
        if mode != needed:
            found.append(
                f"version {member.version} has the mode {mode}, and the rows of {p.paths.clean} (task {p.task}) need "
                f"the mode {needed}"
            )
        elif (several := _several_problem(member, form)) is not None:
            found.append(several)
        else:
            fitting.append(member)
    first = fitting[0] if fitting else None
    for other in fitting[1:]:
        assert first is not None
        if mismatch := compatibility.mismatch(first.folder, other.folder, f"version {first.version}"):
            found.append(f"version {other.version} {mismatch}")
    return found


def _several_problem(member: Member, form: RecordForm) -> str | None:
    if form.record_type != "classification":
        return None
    trained = files.read_object(member.folder / "config.json").get("problem_type")
    needed = f"{'multi' if form.multi_label else 'single'}_label_classification"
    if trained in (needed, None):
        return None
    return f"version {member.version} was trained for {trained}, and the rows of the clean data are {form}"


def tokenizer_problems(p: params.Params, members: Sequence[Member], rows: pa.Table) -> list[str]:
    """Why the probabilities of the members' tokens cannot be averaged, a sentence each; none where they can.

    Args:
        p: the params.
        members: versions of one mode.
        rows: that will be measured.

    Raises:
        ModelError: a tokenizer cannot be loaded.
    """
    encode = MIXTURES[p.task].encode
    return [] if encode is None else list(_tokenizer_problems(members, rows, encode))


def _tokenizer_problems(members: Sequence[Member], rows: pa.Table, encode: Encode) -> Iterator[str]:
    # Loads transformers, which takes seconds.
    from tuneline.modeling import models

    def read(folder: Path) -> tuple[dict[str, int], list[Example]]:
        tokenizer = models.load_tokenizer(folder)
        examples, _ = encode(tokenizer, rows, stored_mode(folder))
        return tokenizer.get_vocab(), [one._replace(source="") for one in examples]

    first, *others = members
    vocabulary, examples = read(first.folder)
    for other in others:
        try:
            theirs, encoded = read(other.folder)
        except ModelError as error:
            yield from error.problems
            continue
        if theirs != vocabulary:
            count = len(dict(theirs.items() ^ vocabulary.items()))
            yield (
                f"version {other.version} has another tokenizer than version {first.version} ({count:,} tokens "
                "differ), so their probabilities are not of the same tokens; give versions of one base"
            )
        elif encoded != examples:
            yield (
                f"version {other.version} writes the rows in other tokens than version {first.version}, although the "
                "vocabulary is the same: its chat template or special tokens differ"
            )
