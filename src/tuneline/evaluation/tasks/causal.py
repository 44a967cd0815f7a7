"""How causal language models are evaluated on texts, prompts with completions, and conversations."""

import hashlib
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pyarrow as pa

from tuneline.data.records.record_form import RecordForm
from tuneline.evaluation import answer_metrics, metrics, score_table
from tuneline.evaluation.answer_metrics import Closeness
from tuneline.evaluation.intervals import Statistic
from tuneline.evaluation.score_table import ModelToScore
from tuneline.evaluation.words import tokenizer_for
from tuneline.params import Evaluate
from tuneline.progress import Progress

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from tuneline.encoding.examples import Example, Examples
    from tuneline.evaluation import timing
    from tuneline.evaluation.likelihood import RowScore

# Rows that are encoded together.
_BATCH = 1024
_COUNTS = pa.list_(pa.int64())
CLOSENESS = {"exact": pa.float64(), "f1": pa.float64(), "bleu_counts": _COUNTS, "chrf_counts": _COUNTS}
"""The fields of Closeness as columns of a score table."""


def test_rows(split: pa.Table, evaluate: Evaluate, form: RecordForm | None = None) -> pa.Table:
    """The rows of a clean split: `prompt`, `reference`, whether they are `answered`, `bytes` of supervised text, and
    the `tokenizer` of sacrebleu by which words are counted.

    Of pairs and conversations, `generation_rows` drawn by the seed are answered, and the answers are scored. A text has
    no right answer: it is cut in half, and the models continue the first half in a few samples for people to read.
    """
    columns = split.to_pydict()
    wanted, more = evaluate.generation_rows, {}
    if "messages" in columns:
        parts = [_conversation(orjson.loads(messages)) for messages in columns["messages"]]
        prompts, references, supervised = ([part[place] for part in parts] for place in range(3))
        more = {name: split[name] for name in ("messages", "tools")}
    elif "prompt" in columns:
        prompts, references = columns["prompt"], columns["completion"]
        supervised = references
    else:
        prompts = [text[: len(text) // 2] for text in columns["text"]]
        references = [text[len(text) // 2 :] for text in columns["text"]]
        supervised, wanted = columns["text"], evaluate.samples
    answered = np.zeros(split.num_rows, bool)
    answered[np.random.default_rng(evaluate.seed).permutation(split.num_rows)[:wanted]] = True
    sizes = pa.array([len(text.encode()) for text in supervised], pa.int64())
    fields = {"prompt": pa.array(prompts, pa.string()), "reference": pa.array(references, pa.string()), **more}
    tokenizer = pa.array([tokenizer_for(references)] * split.num_rows, pa.string())
    fields |= {"answered": pa.array(answered), "bytes": sizes, "tokenizer": tokenizer}
    return score_table.test_rows(split, fields)


def supervised_texts(split: pa.Table) -> list[str]:
    """Of each row of a clean split the text that the model learns to write."""
    if "messages" in split.column_names:
        return [_conversation(orjson.loads(messages))[2] for messages in split["messages"].to_pylist()]
    return split["completion" if "completion" in split.column_names else "text"].to_pylist()


def records(rows: pa.Table, *, is_text: bool) -> list[dict[str, Any]]:
    """The rows as training sees them."""
    if "messages" in rows.column_names:
        return rows.select(["messages", "tools"]).to_pylist()
    pairs = zip(rows["prompt"].to_pylist(), rows["reference"].to_pylist(), strict=True)
    if is_text:
        return [{"text": prompt + reference} for prompt, reference in pairs]
    return [{"prompt": prompt, "completion": reference} for prompt, reference in pairs]


def encode_rows(
    tokenizer: "PreTrainedTokenizerBase",
    rows: pa.Table,
    mode: str,
    *,
    is_text: bool,
    token_cache: Path | None = None,
) -> "tuple[Examples, np.ndarray]":
    """Encode rows; nothing is cut off. A conversation may become several examples, one per answer.

    Args:
        tokenizer: of a model.
        rows: from `test_rows`.
        mode: how a record becomes tokens, as stored with the model.
        is_text: whether the rows are texts without a prompt.
        token_cache: the folder that keeps the tokens; None: in memory.

    Returns:
        The examples, and the number of the row that each belongs to.
    """
    from tuneline.encoding import token_cache as cache
    from tuneline.encoding.encode import encode_records
    from tuneline.encoding.examples import Examples
    from tuneline.encoding.truncation import LengthPolicy

    found = records(rows, is_text=is_text)
    policy = LengthPolicy(max_length=sys.maxsize, overlong="error", max_dropped_fraction=1.0)

    def portions() -> "Iterator[list[Example]]":
        for start in range(0, len(found), _BATCH):
            batch = found[start : start + _BATCH]
            batch = [record | {"source": f"row {start + at}"} for at, record in enumerate(batch)]
            yield [example for row in encode_records(tokenizer, batch) for example in policy.apply(row)]

    if token_cache is None:
        examples = Examples(example for portion in portions() for example in portion)
    else:
        digest = hashlib.sha256()
        for record in found:
            digest.update(orjson.dumps(record))
        key = cache.cache_key(tokenizer, rows=digest.hexdigest(), mode=mode)
        examples, _ = cache.read_or_write(token_cache, key, Examples, portions(), policy.report)
    row_of = [int(source.removeprefix("row ")) for source in examples.sources()]
    return examples, np.array(row_of, np.int64)


def prompts(rows: pa.Table) -> list[Any]:
    """What a model is asked: the prompts as written, or the conversations."""
    if "messages" in rows.column_names:
        return rows.select(["messages", "tools"]).to_pylist()
    return rows["prompt"].to_pylist()


def scores(
    *,
    tokens: np.ndarray | None = None,
    nll: np.ndarray | None = None,
    texts: Sequence[str | None] | None = None,
    samples: Sequence[Sequence[str] | None] | None = None,
    closeness: Sequence[Closeness | None] | None = None,
    windowed: np.ndarray | None = None,
) -> pa.Table:
    """The score table of one model; a column that was not measured is left out.

    Args:
        tokens: supervised tokens of each row.
        nll: their negative log-likelihood, in nats.
        texts: the greedy answers; None for a row that was not answered.
        samples: the sampled answers of each row.
        closeness: of the greedy answers to the references.
        windowed: whether a row is longer than the model sees at once, so that it was scored in overlapping windows.
    """
    columns = {
        "tokens": None if tokens is None else pa.array(tokens, pa.int64()),
        "nll": None if nll is None else pa.array(nll, pa.float64()),
        "text": None if texts is None else pa.array(texts, pa.string()),
        "samples": None if samples is None else pa.array(samples, pa.list_(pa.string())),
    }
    if windowed is not None:
        columns["windowed"] = pa.array(windowed, pa.bool_())
    if closeness is not None:
        single = [None if one is None else answer_metrics.chrf_of(one) for one in closeness]
        columns["chrf"] = pa.array(single, pa.float64())
        for name, kind in CLOSENESS.items():
            columns[name] = pa.array([None if one is None else getattr(one, name) for one in closeness], kind)
    return pa.table({name: column for name, column in columns.items() if column is not None})


def statistics(rows: pa.Table, model: pa.Table) -> list[Statistic]:
    """The metrics of one model."""
    found = []
    if "nll" in model.column_names:
        found = metrics.likelihood(model["nll"].to_numpy(), model["tokens"].to_numpy(), rows["bytes"].to_numpy())
    if all(name in model.column_names for name in CLOSENESS):
        columns = zip(*(model[name].to_pylist() for name in CLOSENESS), strict=True)
        found.append(answer_metrics.close([None if row[0] is None else Closeness(*row) for row in columns]))
    if "text" in model.column_names:
        answers = model["samples"] if "samples" in model.column_names else model["text"]
        each = [[row] if isinstance(row, str) else row for row in answers.to_pylist()]
        found.append(answer_metrics.diverse(each, rows["cluster"].to_pylist(), _tokenizer(rows)))
    return found


def _tokenizer(rows: pa.Table) -> str:
    """Of sacrebleu, by which words are counted."""
    if "tokenizer" in rows.column_names and rows.num_rows:
        return rows["tokenizer"][0].as_py()
    # An earlier release did not write the column.
    return tokenizer_for(rows["reference"].to_pylist())


def measure(model: ModelToScore, rows: pa.Table, evaluate: Evaluate, *, is_text: bool) -> pa.Table:
    """Score one model: its likelihood of all rows, and its answers to some of them.

    Args:
        model: the model.
        rows: from `test_rows`.
        evaluate: the section of params.
        is_text: whether the rows are texts without a prompt; their answers have no reference.

    Raises:
        ModelError: the folder does not hold a model that can be loaded.
    """
    from tuneline.encoding.examples import lengths
    from tuneline.evaluation import generation, likelihood, timing

    loaded, tokenizer, mode, length = generation.load(model)
    examples, row_of = encode_rows(tokenizer, rows, mode, is_text=is_text, token_cache=model.token_cache)
    asked = np.flatnonzero(rows["answered"].to_numpy())
    questions = prompts(rows.take(asked))
    if model.models:
        timing.announce(
            loaded,
            tokenizer,
            examples,
            questions,
            mode=mode,
            max_length=length,
            evaluate=evaluate,
            count=model.models,
            can_choose=not is_text,
        )
    with Progress(f"{model.name}: likelihood", always=True) as progress:
        scored = likelihood.score(
            loaded, examples, max_length=length, batch_size=evaluate.batch_size, progress=progress
        )
    nll, tokens = sum_by_row(scored, row_of, rows.num_rows)
    windowed = np.zeros(rows.num_rows, bool)
    windowed[row_of[np.asarray(lengths(examples)) > length]] = True

    def answer(questions: list[Any], what: str, sampling: generation.Sampling | None) -> list[str]:
        with Progress(f"{model.name}: {what}", always=True) as progress:
            return generation.generate(
                loaded,
                tokenizer,
                questions,
                mode=mode,
                max_new_tokens=evaluate.max_new_tokens,
                batch_size=evaluate.batch_size,
                sampling=sampling,
                progress=progress,
            )

    answers = answer(questions, "answers", None)
    found: dict[str, Any] = {"texts": _at(asked, answers, rows.num_rows)}
    if evaluate.temperature is not None:
        count = evaluate.samples_per_prompt
        sampling = generation.Sampling(evaluate.temperature, evaluate.top_p, evaluate.seed)
        drawn = answer([question for question in questions for _ in range(count)], "samples", sampling)
        each = [drawn[start : start + count] for start in range(0, len(drawn), count)]
        found["samples"] = _at(asked, each, rows.num_rows)
    if not is_text:
        references = rows["reference"].take(asked).to_pylist()
        close = answer_metrics.closeness(answers, references, _tokenizer(rows))
        found["closeness"] = _at(asked, close, rows.num_rows)
    return scores(tokens=tokens, nll=nll, windowed=windowed, **found)


def _at(places: np.ndarray, values: Sequence[Any], count: int) -> list[Any]:
    """`count` values: these at their places, and None at all others."""
    found: list[Any] = [None] * count
    for place, value in zip(places.tolist(), values, strict=True):
        found[place] = value
    return found


def sum_by_row(scored: "Sequence[RowScore]", row_of: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """The negative log-likelihood and the tokens of each row: a conversation may have several examples.

    Args:
        scored: of each example.
        row_of: the number of the row that each example belongs to.
        rows: the number of rows.
    """
    nll, tokens = np.zeros(rows), np.zeros(rows, np.int64)
    np.add.at(nll, row_of, np.array([one.nll for one in scored], float))
    np.add.at(tokens, row_of, np.array([one.tokens for one in scored], np.int64))
    return nll, tokens


def estimate_time(model: ModelToScore, rows: pa.Table, evaluate: Evaluate) -> "tuple[timing.Work, timing.Estimate]":
    """How long `measure` of prompts or conversations will take on this machine; a few rows are timed.

    Raises:
        ModelError: the folder does not hold a model that can be loaded.
    """
    from tuneline.evaluation import generation, timing

    loaded, tokenizer, mode, length = generation.load(model)
    examples, _ = encode_rows(tokenizer, rows, mode, is_text=False)
    return timing.estimate(
        loaded,
        tokenizer,
        examples,
        prompts(rows.take(np.flatnonzero(rows["answered"].to_numpy()))),
        mode=mode,
        max_length=length,
        evaluate=evaluate,
        count=model.models,
    )


def baselines(
    folder: Path,
    train: pa.Table,
    test: pa.Table,
    evaluate: Evaluate,
    token_caches: tuple[Path, Path] | None = None,
    *,
    is_text: bool,
) -> dict[str, pa.Table]:
    """The baselines. Their tokens are counted with the tokenizer of the candidate in `folder`."""
    from tuneline.modeling import models
    from tuneline.modeling.model_folder import stored_mode

    tokenizer, mode = models.load_tokenizer(folder), stored_mode(folder)
    found = {"unigram": unigram(tokenizer, train, test, mode=mode, is_text=is_text, token_caches=token_caches)}
    if evaluate.temperature is None:
        # Several answers per prompt repeat more than one reference per prompt can.
        found["reference"] = references(test)
    return found if is_text else found | {"copy": copy(test)}


def unigram(
    tokenizer: "PreTrainedTokenizerBase",
    train: pa.Table,
    test: pa.Table,
    *,
    mode: str,
    is_text: bool,
    token_caches: tuple[Path, Path] | None = None,
) -> pa.Table:
    """The baseline that predicts each token by its frequency among the supervised tokens of training."""
    from tuneline.encoding.examples import IGNORED

    def supervised(rows: pa.Table, token_cache: Path | None) -> Iterator[tuple[int, list[int]]]:
        """Of each example its row and its supervised tokens."""
        examples, row_of = encode_rows(tokenizer, rows, mode, is_text=is_text, token_cache=token_cache)
        for row, example in zip(row_of.tolist(), examples, strict=True):
            yield row, [label for label in example.labels if label != IGNORED]

    of_train, of_test = token_caches or (None, None)
    counts: Counter[int] = Counter()
    for _, tokens in supervised(train, of_train):
        counts.update(tokens)
    # Add one to each count: the cost of a token that training never saw must be finite.
    total = counts.total() + len(tokenizer)
    cost = np.full(len(tokenizer), np.log(total))
    seen = np.array(sorted(counts), np.int64)
    cost[seen] -= np.log(np.array([counts[token] for token in seen.tolist()], float) + 1)
    nll, count = np.zeros(test.num_rows), np.zeros(test.num_rows, np.int64)
    for row, tokens in supervised(test, of_test):
        nll[row] += cost[tokens].sum()
        count[row] += len(tokens)
    return scores(tokens=count, nll=nll)


def copy(test: pa.Table) -> pa.Table:
    """The baseline that answers with the prompt; in a conversation with the user's last message."""
    asked = np.flatnonzero(test["answered"].to_numpy())
    answered = test.take(asked)
    if "messages" in test.column_names:
        turns = [orjson.loads(messages) for messages in answered["messages"].to_pylist()]
        by_user = [[message for message in messages if message["role"] == "user"] for messages in turns]
        copies = [_words(messages[-1]) if messages else "" for messages in by_user]
    else:
        copies = answered["prompt"].to_pylist()
    close = answer_metrics.closeness(copies, answered["reference"].to_pylist(), _tokenizer(test))
    return scores(closeness=_at(asked, close, test.num_rows))


def references(test: pa.Table) -> pa.Table:
    """The right answers themselves, as the measure of how diverse the answers of people are."""
    pairs = zip(test["reference"].to_pylist(), test["answered"].to_pylist(), strict=True)
    return scores(texts=[text if answered else None for text, answered in pairs])


def _conversation(messages: list[dict[str, Any]]) -> tuple[str, str, str]:
    """What precedes the assistant's last turn, that turn, and all that the assistant writes, as a person reads it."""
    turns = [place for place, message in enumerate(messages) if message["role"] == "assistant"]
    last = turns[-1] if turns else len(messages)
    before = "\n\n".join(f"{message['role']}: {_words(message)}" for message in messages[:last])
    answer = _words(messages[last]) if turns else ""
    return before, answer, "".join(_words(messages[place]) for place in turns)


def _words(message: dict[str, Any]) -> str:
    calls = message.get("tool_calls")
    written = orjson.dumps([call.get("function", call) for call in calls]).decode() if calls else ""
    return "\n".join(part for part in (message.get("content") or "", written) if part)
