"""What a causal language model is asked and how it is judged: texts, pairs and conversations."""

from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from tuneline.evaluation import score_table
from tuneline.evaluation.intervals import Statistic, ratio
from tuneline.params import Evaluate

_BITS = float(1 / np.log(2))


def rows_of(split: pa.Table, evaluate: Evaluate) -> pa.Table:
    """The rows of a clean split: `prompt`, `reference`, whether they are `answered`, and `bytes` of what is learnt.

    Of pairs and conversations, `generation_rows` drawn by the seed are answered, and the answers scored. A text has no
    right answer: it is halved, and a model goes on from the first half in the few samples that people read.
    """
    columns = split.to_pydict()
    wanted, more = evaluate.generation_rows, {}
    if "messages" in columns:
        parts = [_conversation(orjson.loads(messages)) for messages in columns["messages"]]
        prompts, references, learnt = ([part[place] for part in parts] for place in range(3))
        more = {name: split[name] for name in ("messages", "tools")}
    elif "prompt" in columns:
        prompts, references = columns["prompt"], columns["completion"]
        learnt = references
    else:
        prompts = [text[: len(text) // 2] for text in columns["text"]]
        references = [text[len(text) // 2 :] for text in columns["text"]]
        learnt, wanted = columns["text"], evaluate.samples
    answered = np.zeros(split.num_rows, bool)
    answered[np.random.default_rng(evaluate.seed).permutation(split.num_rows)[:wanted]] = True
    sizes = pa.array([len(text.encode()) for text in learnt], pa.int64())
    fields = {"prompt": pa.array(prompts, pa.string()), "reference": pa.array(references, pa.string()), **more}
    return score_table.of_split(split, fields | {"answered": pa.array(answered), "bytes": sizes})


def records(test: pa.Table, task: str) -> list[dict[str, Any]]:
    """The rows as they are trained on."""
    if "messages" in test.column_names:
        return test.select(["messages", "tools"]).to_pylist()
    pairs = zip(test["prompt"].to_pylist(), test["reference"].to_pylist(), strict=True)
    if task == "sft":
        return [{"prompt": prompt, "completion": reference} for prompt, reference in pairs]
    return [{"text": prompt + reference} for prompt, reference in pairs]


def copied(test: pa.Table) -> list[str]:
    """What a model that only repeats would answer: the prompt; of a conversation what the user said last."""
    if "messages" not in test.column_names:
        return test["prompt"].to_pylist()
    turns = [orjson.loads(messages) for messages in test["messages"].to_pylist()]
    asked = [[message for message in messages if message["role"] == "user"] for messages in turns]
    return [_words(messages[-1]) if messages else "" for messages in asked]


def scores(
    *,
    tokens: np.ndarray | None = None,
    nll: np.ndarray | None = None,
    texts: list[str | None] | None = None,
    chrf: np.ndarray | None = None,
) -> pa.Table:
    """What one model got on each row; what it has not is left out.

    Args:
        tokens: that the likelihood was summed over.
        nll: in nats.
        texts: the answers; None where a row was not answered.
        chrf: of the answers; NaN where there is none with a reference to be scored against.
    """
    columns = {
        "tokens": None if tokens is None else pa.array(tokens, pa.int64()),
        "nll": None if nll is None else pa.array(nll, pa.float64()),
        "text": None if texts is None else pa.array(texts, pa.string()),
        "chrf": None if chrf is None else pa.array(chrf, pa.float64(), from_pandas=True),
    }
    return pa.table({name: column for name, column in columns.items() if column is not None})


def statistics(test: pa.Table, model: pa.Table) -> list[Statistic]:
    """The metrics of one model."""
    found = []
    if "nll" in model.column_names:
        nll = model["nll"].to_numpy()
        found = [
            ratio("token_loss", nll, model["tokens"].to_numpy()),
            ratio("bits_per_byte", nll * _BITS, test["bytes"].to_numpy()),
        ]
    if "chrf" in model.column_names:
        found.append(ratio("chrf", model["chrf"].to_numpy(zero_copy_only=False).astype(float)))
    return found


def _conversation(messages: list[dict[str, Any]]) -> tuple[str, str, str]:
    """All before the assistant's last turn, that turn, and all that the assistant says; as a person reads it."""
    said = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
    last = said[-1] if said else len(messages)
    before = "\n\n".join(f"{message['role']}: {_words(message)}" for message in messages[:last])
    answer = _words(messages[last]) if said else ""
    return before, answer, "".join(_words(messages[place]) for place in said)


def _words(message: dict[str, Any]) -> str:
    calls = message.get("tool_calls")
    written = orjson.dumps([call.get("function", call) for call in calls]).decode() if calls else ""
    return "\n".join(part for part in (message.get("content") or "", written) if part)
