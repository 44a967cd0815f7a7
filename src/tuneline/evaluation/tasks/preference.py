"""How models are evaluated on pairs of a chosen and a rejected answer: by what they prefer more than their base does.

The reward of an answer is how much likelier the model finds it than its base does, in nats, summed over its tokens. DPO
trains on this reward times its factor beta, which changes no comparison.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import orjson
import pyarrow as pa

from tuneline.data.records.record_form import RecordForm
from tuneline.evaluation import metrics, score_table
from tuneline.evaluation.intervals import Statistic
from tuneline.evaluation.score_table import ModelToScore
from tuneline.params import Evaluate
from tuneline.progress import Progress

if TYPE_CHECKING:
    from tuneline.encoding.examples import Example


def test_rows(split: pa.Table, evaluate: Evaluate, form: RecordForm) -> pa.Table:
    """The rows of a clean split: `prompt`, `chosen`, `rejected` as in the data, and `bytes` of the chosen answer.

    Args:
        split: the table.
        evaluate: the section of params.
        form: of its records.
    """
    chosen = [readable(text, form.conversational) for text in split["chosen"].to_pylist()]
    fields = {name: split[name] for name in ("prompt", "chosen", "rejected")}
    sizes = pa.array([len(text.encode()) for text in chosen], pa.int64())
    flags = pa.array([form.conversational] * split.num_rows, pa.bool_())
    return score_table.test_rows(split, fields | {"conversational": flags, "bytes": sizes})


def readable(field: str, conversational: bool) -> str:
    """A prompt or an answer as a person reads it."""
    if not conversational:
        return field
    messages = orjson.loads(field)
    if len(messages) == 1:
        return messages[0].get("content") or ""
    return "\n\n".join(f"{message['role']}: {message.get('content') or ''}" for message in messages)


def scores(tokens: np.ndarray, nll: np.ndarray, rejected_nll: np.ndarray, base: pa.Table | None) -> pa.Table:
    """The score table of one model.

    Args:
        tokens: of the chosen answer.
        nll: of the chosen answer, in nats.
        rejected_nll: of the rejected answer.
        base: the scores from which rewards are counted; None for the base itself, whose rewards are zero.
    """
    margin = np.zeros(len(nll))
    if base is not None:
        margin = (rejected_nll - nll) - (base["rejected_nll"].to_numpy() - base["nll"].to_numpy())
    return pa.table(
        {
            "tokens": pa.array(tokens, pa.int64()),
            "nll": nll,
            "rejected_nll": rejected_nll,
            "margin": margin,
            "preferred": _preferred(margin),
        }
    )


def statistics(rows: pa.Table, model: pa.Table) -> list[Statistic]:
    """The metrics of one model."""
    found = [metrics.mean("reward_accuracy", model["preferred"].to_numpy())]
    if "nll" in model.column_names:
        found.append(metrics.mean("reward_margin", model["margin"].to_numpy()))
        found += metrics.likelihood(model["nll"].to_numpy(), model["tokens"].to_numpy(), rows["bytes"].to_numpy())
    return found


def measure(model: ModelToScore, rows: pa.Table, evaluate: Evaluate) -> pa.Table:
    """Score one model: its likelihood of both answers of every row.

    Raises:
        ModelError: the folder does not hold a model that can be loaded.
    """
    from tuneline.encoding.encode import encode_preferences
    from tuneline.evaluation import generation, likelihood, timing

    loaded, tokenizer, mode, length = generation.load(model)
    pairs = encode_preferences(tokenizer, rows.select(["prompt", "chosen", "rejected"]).to_pylist(), mode)
    chosen = [_example(pair.prompt_ids, pair.chosen_ids) for pair in pairs]
    rejected = [_example(pair.prompt_ids, pair.rejected_ids) for pair in pairs]
    if model.models:
        timing.announce(
            loaded,
            tokenizer,
            [*chosen, *rejected],
            [],
            mode=mode,
            max_length=length,
            evaluate=evaluate,
            count=model.models,
            can_choose=False,
        )
    scored = []
    for what, examples in (("chosen", chosen), ("rejected", rejected)):
        with Progress(f"{model.name}: {what}", always=True) as progress:
            scored.append(
                likelihood.score(loaded, examples, max_length=length, batch_size=evaluate.batch_size, progress=progress)
            )
    nll, rejected_nll = (np.array([one.nll for one in part], float) for part in scored)
    return scores(np.array([one.tokens for one in scored[0]], np.int64), nll, rejected_nll, model.base)


def baselines(
    folder: Path, train: pa.Table, test: pa.Table, evaluate: Evaluate, token_caches: tuple[Path, Path] | None = None
) -> dict[str, pa.Table]:
    """The baselines."""
    return {"longer": longer(test)}


def longer(test: pa.Table) -> pa.Table:
    """The baseline that prefers the longer answer."""
    flags = test["conversational"].to_pylist()
    chosen, rejected = (
        np.array([len(readable(text, flag)) for text, flag in zip(test[name].to_pylist(), flags, strict=True)])
        for name in ("chosen", "rejected")
    )
    return pa.table({"preferred": _preferred(chosen - rejected)})


def _preferred(margin: np.ndarray) -> np.ndarray:
    """1 where the chosen answer is preferred, 0 where the rejected answer is, 0.5 where neither is."""
    return (1 + np.sign(margin)) / 2


def _example(prompt: list[int], answer: list[int]) -> "Example":
    """The answer is supervised, but for its first token where nothing precedes it."""
    from tuneline.encoding.examples import IGNORED, Example

    labels = [IGNORED] * len(prompt) + answer
    return Example(prompt + answer, labels if prompt else [IGNORED, *labels[1:]])
