"""Test rows, the scores that models got on them, and two models compared on the same rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from tuneline.evaluation import intervals
from tuneline.evaluation.intervals import Interval, Measures
from tuneline.evaluation.metrics import likelihood_metrics
from tuneline.params import Evaluate, Task

METRICS = ("token_loss", "bits_per_byte", "chrf")


@dataclass(frozen=True)
class Rows:
    """Test rows: what a model is asked, and what stands in the data."""

    ids: list[str]
    sources: list[str]
    clusters: list[str]
    prompts: list[str]
    references: list[str]
    answered: list[bool]
    """Whether a model answers the row's prompt; of the others only the likelihood is measured."""
    task: Task

    @classmethod
    def of_split(cls, table: pa.Table, task: Task, evaluate: Evaluate) -> "Rows":
        """The rows of a clean split.

        Of pairs, `generation_rows` drawn by the seed are answered, and the answers scored. A text has no right answer:
        it is halved, and a model goes on from the first half in the few samples that people read.
        """
        columns = table.to_pydict()
        if task == "sft":
            prompts, references = columns["prompt"], columns["completion"]
            wanted = evaluate.generation_rows
        else:
            prompts = [text[: len(text) // 2] for text in columns["text"]]
            references = [text[len(text) // 2 :] for text in columns["text"]]
            wanted = evaluate.samples
        drawn = np.random.default_rng(evaluate.seed).permutation(table.num_rows)[:wanted].tolist()
        answered = [False] * table.num_rows
        for index in drawn:
            answered[index] = True
        return cls(columns["id"], columns["source"], columns["cluster"], prompts, references, answered, task)

    @classmethod
    def of_report(cls, table: pa.Table, task: Task) -> "Rows":
        """The rows of reports/rows.parquet, so that another model is measured on the very same."""
        columns = table.select(["id", "source", "cluster", "prompt", "reference", "candidate_text"]).to_pydict()
        answered = [text is not None for text in columns["candidate_text"]]
        return cls(
            columns["id"],
            columns["source"],
            columns["cluster"],
            columns["prompt"],
            columns["reference"],
            answered,
            task,
        )

    @property
    def records(self) -> list[dict[str, Any]]:
        """The rows as they are trained on."""
        pairs = zip(self.prompts, self.references, strict=True)
        if self.task == "sft":
            return [{"prompt": prompt, "completion": reference} for prompt, reference in pairs]
        return [{"text": prompt + reference} for prompt, reference in pairs]

    def take(self, kept: Sequence[int]) -> "Rows":
        """The rows at these places."""
        return Rows(
            [self.ids[index] for index in kept],
            [self.sources[index] for index in kept],
            [self.clusters[index] for index in kept],
            [self.prompts[index] for index in kept],
            [self.references[index] for index in kept],
            [self.answered[index] for index in kept],
            self.task,
        )


@dataclass(frozen=True)
class Scores:
    """What one model got on each row."""

    nll: np.ndarray
    tokens: np.ndarray
    bytes: np.ndarray
    texts: list[str | None]
    """The answers; None where the row was not answered."""
    chrf: np.ndarray
    """NaN where there is no answer with a reference to be scored against."""

    def columns(self, name: str) -> dict[str, pa.Array]:
        """The model's columns of reports/rows.parquet."""
        return {
            f"{name}_tokens": pa.array(self.tokens, pa.int64()),
            f"{name}_nll": pa.array(self.nll, pa.float64()),
            f"{name}_text": pa.array(self.texts, pa.string()),
            f"{name}_chrf": pa.array(self.chrf, pa.float64(), from_pandas=True),
        }

    @classmethod
    def of_report(cls, table: pa.Table, name: str) -> "Scores":
        """The scores of `candidate` or `base` in reports/rows.parquet."""
        return cls(
            table[f"{name}_nll"].to_numpy(),
            table[f"{name}_tokens"].to_numpy(),
            table["bytes"].to_numpy(),
            table[f"{name}_text"].to_pylist(),
            np.array([np.nan if score is None else score for score in table[f"{name}_chrf"].to_pylist()], float),
        )

    def take(self, kept: Sequence[int]) -> "Scores":
        """The scores of the rows at these places."""
        index = np.asarray(kept, dtype=np.int64)
        texts = [self.texts[place] for place in kept]
        return Scores(self.nll[index], self.tokens[index], self.bytes[index], texts, self.chrf[index])


def summarise(scores: Scores) -> dict[str, float]:
    """`token_loss`, `bits_per_byte`, `perplexity`, and `chrf` where answers were scored."""
    metrics = likelihood_metrics(float(scores.nll.sum()), int(scores.tokens.sum()), int(scores.bytes.sum()))
    scored = scores.chrf[~np.isnan(scores.chrf)]
    return metrics | ({"chrf": float(scored.mean())} if scored.size else {})


def compare(candidate: Scores, other: Scores, clusters: Sequence[str], evaluate: Evaluate) -> Measures:
    """How the candidate differs from another model on the same rows.

    Args:
        candidate: its scores.
        other: the other model's, of the same rows.
        clusters: of the rows; rows of one cluster are drawn together.
        evaluate: seed and number of resamples.

    Returns:
        Of every metric the interval, or the reason why there is none.
    """

    def interval(mine: tuple[np.ndarray, np.ndarray], theirs: tuple[np.ndarray, np.ndarray], kept: Any) -> Interval:
        return intervals.paired_bootstrap(
            (mine[0][kept], mine[1][kept]),
            (theirs[0][kept], theirs[1][kept]),
            groups=groups[kept].tolist(),
            resamples=evaluate.bootstrap_resamples,
            seed=evaluate.seed,
        )

    if not candidate.nll.size:
        return dict.fromkeys(METRICS, "no test row is left that both may be measured on")
    groups = np.array(clusters, dtype=object)
    every = np.full(candidate.nll.size, True)
    bits = float(1 / np.log(2))
    measures: dict[str, Interval | str] = {
        "token_loss": "their tokenizers cut the rows differently, so a loss per token says nothing; use bits_per_byte",
        "bits_per_byte": interval((candidate.nll * bits, candidate.bytes), (other.nll * bits, other.bytes), every),
        "chrf": "no answers were scored",
    }
    if np.array_equal(candidate.tokens, other.tokens):
        measures["token_loss"] = interval((candidate.nll, candidate.tokens), (other.nll, other.tokens), every)
    scored = ~np.isnan(candidate.chrf) & ~np.isnan(other.chrf)
    if scored.any():
        ones = np.ones(candidate.nll.size)
        measures["chrf"] = interval((candidate.chrf, ones), (other.chrf, ones), scored)
    return measures
