"""Metrics of generated answers: how close they are to their references, and how much they differ from each other.

BLEU and chrF are those of a whole set of answers. They are functions of counts, which are summed over answers, so their
intervals are exact: each draw of the bootstrap has the value that sacrebleu gives for the drawn answers.
"""

import bisect
import itertools
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from sacrebleu.metrics.bleu import BLEU, MAX_NGRAM_ORDER
from sacrebleu.metrics.helpers import extract_all_char_ngrams

from tuneline.evaluation.intervals import FEWEST_GROUPS, Statistic
from tuneline.evaluation.words import answer_words

_CHRF_ORDER = 6
_CHRF_BETA = 2
# Welleck et al. 2020 count sequences of four words.
_REPEATED = 4
MOST_COMPARED = 4_000
"""Answers whose diversity is measured, about: their n-grams are held in memory."""
MOST_WORDS = 1_000_000
"""Words of all these answers together, about: with their n-grams they take below 1 GB. Each answer has the same share,
so that two models are compared on the same rows; what is longer is cut for diversity alone."""
# Summary, comparisons and gaps ask for the same few score tables one after the other.
_KEPT = 8
# Columns of the sums of diversity.
_DIVERSE = 9
# Instead of a row, for an n-gram of several clusters.
_SEVERAL = -1

NGram = tuple[str, ...]


class Closeness(NamedTuple):
    """How close one answer is to its reference."""

    exact: float
    """1.0 where it has the same words in the same order as the reference, else 0.0."""
    f1: float
    """Token F1: the harmonic mean of the share of its words that the reference has and the reverse."""
    bleu_counts: list[int]
    """Words of answer and reference, then the common n-grams and all n-grams of the answer, for one to four words."""
    chrf_counts: list[int]
    """For one to six characters, the n-grams of the answer, of the reference, and those in common."""


def closeness(answers: Sequence[str], references: Sequence[str], tokenizer: str) -> list[Closeness]:
    """How close each answer is to its reference.

    Args:
        answers: of a model.
        references: the right answers.
        tokenizer: of sacrebleu, which divides texts into words for BLEU.
    """
    bleu = BLEU(tokenize=tokenizer, effective_order=True)
    found = []
    for answer, reference in zip(answers, references, strict=True):
        words, wanted = answer_words(answer), answer_words(reference)
        score = bleu.sentence_score(answer, [reference])
        counts = [score.sys_len, score.ref_len, *score.counts, *score.totals]
        found.append(Closeness(float(words == wanted), _f1(words, wanted), counts, _characters(answer, reference)))
    return found


def _f1(words: list[str], wanted: list[str]) -> float:
    """As in SQuAD 2.0: without a word on one side, it is 1 only if the other side has none either."""
    if not words or not wanted:
        return float(words == wanted)
    common = (Counter(words) & Counter(wanted)).total()
    return 2 * common / (len(words) + len(wanted))


def _characters(answer: str, reference: str) -> list[int]:
    counts = []
    of_answer, of_reference = (extract_all_char_ngrams(text, _CHRF_ORDER) for text in (answer, reference))
    for mine, theirs in zip(of_answer, of_reference, strict=True):
        # As in sacrebleu: an answer is not blamed for n-grams that are longer than the reference.
        counts += [mine.total() if theirs else 0, theirs.total(), (mine & theirs).total()]
    return counts


def chrf(counts: np.ndarray) -> np.ndarray:
    """chrF, 0 to 100, of sums of `Closeness.chrf_counts`: [18, draws] -> [draws]."""
    mine, theirs, common = counts.reshape(_CHRF_ORDER, 3, -1).swapaxes(0, 1)
    known = (mine > 0) & (theirs > 0)
    orders = np.maximum(known.sum(axis=0), 1)
    precision, recall = (
        np.where(known, common / np.maximum(whole, 1), 0).sum(axis=0) / orders for whole in (mine, theirs)
    )
    weighted = _CHRF_BETA**2 * precision + recall
    return 100 * (1 + _CHRF_BETA**2) * precision * recall / np.where(weighted > 0, weighted, 1)


def chrf_of(one: Closeness) -> float:
    """The chrF of a single answer."""
    return float(chrf(np.array(one.chrf_counts)[:, None])[0])


def bleu(counts: np.ndarray) -> np.ndarray:
    """BLEU, 0 to 100, of sums of `Closeness.bleu_counts`: [10, draws] -> [draws]. Smoothed as by sacrebleu's `exp`."""
    words, wanted = counts[:2]
    common, whole = counts[2:].reshape(2, MAX_NGRAM_ORDER, -1)
    smoothing = np.ones(counts.shape[1])
    logarithms = np.zeros(counts.shape[1])
    for hits, ngrams in zip(common, whole, strict=True):
        none = (hits == 0) & (ngrams > 0)
        smoothing = np.where(none, 2 * smoothing, smoothing)
        logarithms += np.log(np.where(none, 1 / smoothing, hits) / np.maximum(ngrams, 1))
    brevity = np.minimum(1, np.exp(1 - wanted / words))
    return np.where(common.sum(axis=0) > 0, 100 * brevity * np.exp(logarithms / MAX_NGRAM_ORDER), 0.0)


def close(found: Sequence[Closeness | None]) -> Statistic:
    """`exact_match`, `token_f1`, `bleu`, `chrf` and `length_ratio`: the answers' words per word of the references.

    Args:
        found: of each row; None where it was not answered.
    """
    missing = [np.nan] * (3 + 2 + 2 * MAX_NGRAM_ORDER + 3 * _CHRF_ORDER)
    columns = [
        missing if one is None else [1.0, one.exact, one.f1, *one.bleu_counts, *one.chrf_counts] for one in found
    ]
    chrf_begins = 3 + 2 + 2 * MAX_NGRAM_ORDER

    def of_sums(sums: np.ndarray) -> np.ndarray:
        rows, exact, f1, words, wanted = sums[:5]
        return np.stack([exact / rows, f1 / rows, bleu(sums[3:chrf_begins]), chrf(sums[chrf_begins:]), words / wanted])

    names = ("exact_match", "token_f1", "bleu", "chrf", "length_ratio")
    return Statistic(names, np.array(columns, float).reshape(len(columns), len(missing)).T, of_sums)


def diverse(answers: Sequence[Sequence[str] | None], clusters: Sequence[str], tokenizer: str) -> Statistic:
    """`distinct_1`, `distinct_2`, `repetition` and `self_bleu`.

    Distinct-n is the number of different n-grams in all answers, divided by the number of words. It is not a sum over
    rows, and drawing rows twice would make it smaller. Each draw of the bootstrap therefore counts the n-grams that
    only one cluster has as often as that cluster was drawn, and the n-grams that several clusters have once: this is
    the jackknife's estimate (Efron and Stein 1981, https://doi.org/10.1214/aos/1176345462), whose intervals are rather
    too wide than too narrow.

    Args:
        answers: of each row; None where it was not answered. With several answers per row, self-BLEU compares an
            answer with the other answers of its row, else with the answers of all other rows.
        clusters: of the rows that are drawn together.
        tokenizer: of sacrebleu, which divides texts into words.
    """
    asked = _drawn([place for place, row in enumerate(answers) if row is not None], answers)
    columns = np.full((_DIVERSE, len(answers)), np.nan)
    columns[:, asked] = _diversity(
        tuple(tuple(answers[place] or ()) for place in asked), tuple(clusters[place] for place in asked), tokenizer
    )

    def of_sums(sums: np.ndarray) -> np.ndarray:
        total, repeated, count, alike, compared = sums[4:]
        distinct = [np.minimum(sums[at] + sums[at + 1], total) / total for at in (0, 2)]
        return np.stack([*distinct, repeated / count, alike / compared])

    return Statistic(("distinct_1", "distinct_2", "repetition", "self_bleu"), columns, of_sums)


@lru_cache(_KEPT)
def _diversity(answers: tuple[tuple[str, ...], ...], clusters: tuple[str, ...], tokenizer: str) -> np.ndarray:
    """The sums of `diverse` for some answered rows, [_DIVERSE, rows]; arguments as there."""
    split = BLEU(tokenize=tokenizer).tokenizer
    longest = MOST_WORDS // max(sum(map(len, answers)), 1)
    # An answer without words is neither repetitive nor like another.
    words = [[text for one in row if (text := split(one.rstrip()).split()[:longest])] for row in answers]
    found = np.zeros((_DIVERSE, len(answers)))
    found[:4] = np.concatenate([_owned(words, clusters, order) for order in (1, 2)])
    if any(len(row) > 1 for row in answers):
        scores = [score for row in words for score in self_bleu(row)]
    else:
        scores = self_bleu([text for row in words for text in row])
    everything = [(place, text) for place, row in enumerate(words) for text in row]
    for (place, text), score in zip(everything, scores, strict=True):
        found[4:7, place] += [len(text), repetition(text), 1.0]
        if score is not None:
            found[7:, place] += [score, 1.0]
    return found


def _drawn(asked: list[int], answers: Sequence[Sequence[str] | None]) -> list[int]:
    """The rows whose diversity is measured: all, or as many as have about MOST_COMPARED answers, drawn by a seed."""
    most = max(FEWEST_GROUPS, MOST_COMPARED // max((len(answers[place] or ()) for place in asked), default=1))
    if len(asked) <= most:
        return asked
    return sorted(np.random.default_rng(0).choice(asked, most, replace=False).tolist())


def _owned(words: Sequence[Sequence[list[str]]], clusters: Sequence[str], order: int) -> np.ndarray:
    """The n-grams that only the cluster has, and the part of all others, [2, rows]; summed, each counts once."""
    owner: dict[NGram, int] = {}
    for place, row in enumerate(words):
        for ngram in {ngram for text in row for ngram in _ngrams(text, order)}:
            first = owner.setdefault(ngram, place)
            if first != _SEVERAL and clusters[first] != clusters[place]:
                owner[ngram] = _SEVERAL
    found = np.zeros((2, len(words)))
    owners = np.array(list(owner.values()), np.int64)
    found[0] = np.bincount(owners[owners != _SEVERAL], minlength=len(words))
    # One row of each cluster carries the cluster's part, so that every draw of clusters has the same sum.
    carriers = list({cluster: place for place, cluster in enumerate(clusters)}.values())
    found[1, carriers] = np.count_nonzero(owners == _SEVERAL) / max(len(carriers), 1)
    return found


def _ngrams(words: Sequence[str], order: int) -> list[NGram]:
    return [tuple(words[start : start + order]) for start in range(len(words) - order + 1)]


def repetition(words: Sequence[str]) -> float:
    """The share of sequences of four words that the answer already had (seq-rep-4); 0 for an answer of fewer words."""
    ngrams = _ngrams(words, _REPEATED)
    return 1 - len(set(ngrams)) / len(ngrams) if ngrams else 0.0


def self_bleu(answers: Sequence[Sequence[str]]) -> list[float | None]:
    """The BLEU of each answer against all the others as its references; None for a single answer.

    Comparing each pair would take quadratic time. An n-gram counts as often as in the reference that has it most often,
    so the two answers that have it most often suffice.

    Args:
        answers: the words of each.
    """
    if len(answers) < 2:
        return [None] * len(answers)
    counters = [
        Counter(ngram for order in range(1, MAX_NGRAM_ORDER + 1) for ngram in _ngrams(words, order))
        for words in answers
    ]
    most: dict[NGram, tuple[int, int, int]] = {}
    for place, counter in enumerate(counters):
        for ngram, count in counter.items():
            first, who, second = most.get(ngram, (0, -1, 0))
            most[ngram] = (count, place, first) if count > first else (first, who, max(second, count))
    lengths = sorted(map(len, answers))
    found: list[float | None] = []
    for place, (words, counter) in enumerate(zip(answers, counters, strict=True)):
        common, whole = [0] * MAX_NGRAM_ORDER, [0] * MAX_NGRAM_ORDER
        for ngram, count in counter.items():
            first, who, second = most[ngram]
            whole[len(ngram) - 1] += count
            common[len(ngram) - 1] += min(count, second if who == place else first)
        closest = _closest(lengths, len(words))
        score = BLEU.compute_bleu(common, whole, len(words), closest, smooth_method="exp", effective_order=True)
        found.append(score.score)
    return found


def _closest(lengths: Sequence[int], length: int) -> int:
    """The length of another answer that is closest to this answer's; of two, the shorter."""
    at = bisect.bisect_left(lengths, length)
    # The answer itself is in the list: without it, its neighbours are the candidates.
    around = itertools.chain(lengths[max(0, at - 1) : at], lengths[at + 1 : at + 2])
    return min(around, key=lambda other: (abs(other - length), other))
