"""How a model is judged by pairs of a better and a worse answer: what it has come to prefer since its base.

The reward of an answer is how much likelier the model finds it than its base does, in nats, summed over its tokens: DPO
learns exactly this, less its factor beta, which no comparison needs.
"""

import numpy as np
import orjson
import pyarrow as pa

from tuneline.evaluation import score_table
from tuneline.evaluation.intervals import Statistic, ratio
from tuneline.params import Evaluate

_BITS = float(1 / np.log(2))


def rows_of(split: pa.Table, evaluate: Evaluate, *, conversational: bool) -> pa.Table:
    """The rows of a clean split: `prompt`, `chosen`, `rejected` as they stand in the data, and `bytes` of the chosen.

    Args:
        split: the table.
        evaluate: the section of params.
        conversational: whether the fields are JSON lists of messages.
    """
    chosen = [readable(text, conversational) for text in split["chosen"].to_pylist()]
    fields = {name: split[name] for name in ("prompt", "chosen", "rejected")}
    sizes = pa.array([len(text.encode()) for text in chosen], pa.int64())
    flags = pa.array([conversational] * split.num_rows, pa.bool_())
    return score_table.of_split(split, fields | {"conversational": flags, "bytes": sizes})


def readable(field: str, conversational: bool) -> str:
    """A prompt or an answer as a person reads it."""
    if not conversational:
        return field
    messages = orjson.loads(field)
    if len(messages) == 1:
        return messages[0].get("content") or ""
    return "\n\n".join(f"{message['role']}: {message.get('content') or ''}" for message in messages)


def scores(tokens: np.ndarray, nll: np.ndarray, rejected_nll: np.ndarray, base: pa.Table | None) -> pa.Table:
    """What one model got on each row.

    Args:
        tokens: of the chosen answer.
        nll: of the chosen answer, in nats.
        rejected_nll: of the rejected answer.
        base: the scores of the model that it is judged against; None for the base itself, whose rewards are zero.
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
            "preferred": preferred(margin),
        }
    )


def longer(test: pa.Table) -> pa.Table:
    """The baseline that takes the longer answer for the better one."""
    flags = test["conversational"].to_pylist()
    chosen, rejected = (
        np.array([len(readable(text, flag)) for text, flag in zip(test[name].to_pylist(), flags, strict=True)])
        for name in ("chosen", "rejected")
    )
    return pa.table({"preferred": preferred(chosen - rejected)})


def preferred(margin: np.ndarray) -> np.ndarray:
    """1 where the chosen answer is preferred, 0 where the rejected is; between two alike a coin is thrown: a half."""
    return (1 + np.sign(margin)) / 2


def statistics(test: pa.Table, model: pa.Table) -> list[Statistic]:
    """The metrics of one model."""
    found = [ratio("reward_accuracy", model["preferred"].to_numpy())]
    if "nll" in model.column_names:
        nll = model["nll"].to_numpy()
        found += [
            ratio("reward_margin", model["margin"].to_numpy()),
            ratio("token_loss", nll, model["tokens"].to_numpy()),
            ratio("bits_per_byte", nll * _BITS, test["bytes"].to_numpy()),
        ]
    return found
