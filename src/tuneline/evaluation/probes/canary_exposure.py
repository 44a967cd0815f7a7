"""Memorisation of canaries: how far a planted random sequence ranks above random sequences that were not planted.

Exposure is log2(sequences) - log2(rank), where the rank is that of the canary by likelihood among itself and
`evaluate.probes.canary_references` references (Carlini et al., 2019, The Secret Sharer, https://arxiv.org/abs/1802.08232:
their estimate by sampling; nothing is extrapolated). A model that has never seen the canaries has a mean exposure of
about 1.44 bits, because the rank is then uniform, and a canary that is likelier than every reference has the highest.
"""

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from tuneline.data.records import canaries
from tuneline.data.records.record_form import RecordForm
from tuneline.evaluation import metrics
from tuneline.evaluation.intervals import Statistic
from tuneline.evaluation.probes import general_text
from tuneline.params import Evaluate

if TYPE_CHECKING:
    from tuneline.evaluation.generation import LoadedModel


def make_rows(planted: list[str], references: int, evaluate: Evaluate, form: RecordForm) -> pa.Table:
    """The canaries and their references; `planted` says which they are.

    Args:
        planted: the sequences of the canaries.
        references: the number of references.
        evaluate: the section of params.
        form: of the records.
    """
    others = canaries.draw(references, f"references {evaluate.seed}", planted)
    made = [canaries.row(form, sequence, place) for place, sequence in enumerate([*planted, *others], 1)]
    rows = general_text.as_answers(pa.Table.from_pylist(made), evaluate, form)
    return rows.append_column("planted", pa.array([True] * len(planted) + [False] * len(others)))


def measure(model: "LoadedModel", rows: pa.Table, evaluate: Evaluate, name: str) -> pa.Table:
    """The `nll` of each row, and the `exposure` of each canary; null for a reference.

    Args:
        model: in memory.
        rows: from `make_rows`.
        evaluate: the section of params.
        name: what the lines of progress call the model.
    """
    nll = general_text.measure(model, rows, evaluate, name, what="canaries")["nll"].to_numpy()
    planted = rows["planted"].to_numpy(zero_copy_only=False)
    found: list[float | None] = [None] * len(nll)
    for place, bits in zip(np.flatnonzero(planted).tolist(), exposure(nll[planted], nll[~planted]), strict=True):
        found[place] = float(bits)
    return pa.table({"nll": nll, "exposure": pa.array(found, pa.float64())})


def exposure(canaries: np.ndarray, references: np.ndarray) -> np.ndarray:
    """The exposure of each canary, in bits; NaN where the model's output is not a number.

    Args:
        canaries: their negative log-likelihoods.
        references: those of the references; one that is as likely as a canary ranks before it.
    """
    ranks = 1 + np.searchsorted(np.sort(references), canaries, side="right")
    bits = np.log2(len(references) + 1) - np.log2(ranks)
    return np.where(np.isnan(canaries) | np.isnan(references).any(), np.nan, bits)


def statistics(_: pa.Table, model: pa.Table) -> list[Statistic]:
    """`canary_exposure` of one model: the mean over the canaries."""
    return [metrics.mean("canary_exposure", model["exposure"].to_numpy())]
