"""Explain one output of a stored model, or the labels that it gives many texts."""

import difflib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from tuneline.encoding import token_ids
from tuneline.encoding.chat.chat_template import ChatTemplate
from tuneline.encoding.chat.conversation import Conversation
from tuneline.encoding.examples import CHAT, CLASSIFICATION, REGRESSION
from tuneline.errors import ModelError
from tuneline.evaluation import generation, intervals, metrics, predictions
from tuneline.evaluation.intervals import Interval
from tuneline.evaluation.predictions import EVEN
from tuneline.explanation import attention as attentions
from tuneline.explanation import attributions, deciding_words, deletion, word_units
from tuneline.explanation.attention import Attention
from tuneline.explanation.attributions import Gradients
from tuneline.explanation.deciding_words import LabelWords
from tuneline.explanation.deletion import Deletion, Removal
from tuneline.explanation.explained_output import AnswerOutput, ExplainedOutput, HeadOutput, Kind
from tuneline.explanation.word_units import Words
from tuneline.modeling import models
from tuneline.progress import Report, silent

GRADIENTS, OCCLUSION, ATTENTION = "integrated gradients", "occlusion", "attention"
METHODS = (GRADIENTS, OCCLUSION, ATTENTION)
"""The attributions that are compared with random orders."""

_ORDERS = 40
"""Random orders of one text."""
_POINTS = 10
_ORDERS_OF_ROWS = 3
"""Random orders of each of many texts."""
_POINTS_OF_ROWS = 5


@dataclass(frozen=True)
class Loaded:
    """A model in memory that is to be explained."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    mode: str
    max_length: int
    """Tokens that it sees at once."""
    labels: tuple[str, ...] = ()
    """Of a classifier, in the order of its outputs."""
    several: bool = False
    """Whether a text may have several labels."""
    has_attention: bool = True
    """Whether it can return its attention weights."""

    @property
    def baseline(self) -> int:
        """The token that stands for no word: the mask of a masked model, else end-of-text, else padding."""
        for token in (self.tokenizer.mask_token_id, self.tokenizer.eos_token_id):
            if isinstance(token, int):
                return token
        return models.pad_token_id(self.tokenizer)

    @property
    def baseline_text(self) -> str:
        """How the tokenizer spells this token."""
        return str(self.tokenizer.convert_ids_to_tokens(self.baseline))


@dataclass(frozen=True)
class Explanation:
    """Why a model gives one output."""

    kind: Kind
    text: str
    """The prompt or text."""
    label: str
    """The label that is explained; empty for an answer or a number."""
    is_given: bool
    """Whether the model gives this label, or wrote this answer; else a person asked about it."""
    answer: str
    answer_tokens: tuple[str, ...]
    """Their texts; of an answer."""
    shown: float
    """The probability or number; of an answer the geometric mean of its tokens' probabilities."""
    others: tuple[tuple[str, float], ...]
    """The most probable labels with their probabilities."""
    words: tuple[str, ...]
    tokens: int
    """Tokens of the text, all that the model sees."""
    baseline: str
    gradients: Gradients
    occlusion: np.ndarray
    """[tokens of the answer, words]; of a label or a number [1, words]."""
    attention: Attention | None
    deletion: Deletion | None


def load(folder: Path, mode: str, max_length: int) -> Loaded:
    """Load a model so that it can be explained.

    Args:
        folder: of the model.
        mode: as stored with it.
        max_length: most tokens of a text in training.

    Raises:
        ModelError: the folder does not hold a model that can be loaded.
    """
    is_head = mode in (CLASSIFICATION, REGRESSION)
    model, tokenizer = (models.load_classifier if is_head else models.load)(folder)
    # Only the layers' outputs are differentiated.
    model.requires_grad_(False)
    has_attention = attentions.use_eager(model)
    context = generation.context_length(model, max_length)
    loaded = Loaded(model, tokenizer, mode, context, has_attention=has_attention)
    if mode == CLASSIFICATION:
        names, several = predictions.label_names(model.config)
        loaded = replace(loaded, labels=tuple(names), several=several)
    return replace(loaded, max_length=min(max_length, context)) if is_head else loaded


def explain(
    loaded: Loaded,
    text: str,
    *,
    label: str | None,
    answer: str | None,
    max_new_tokens: int,
    seed: int,
    progress: Callable[[str], None] = lambda _: None,
) -> Explanation:
    """Explain the label or number that a model gives a text, or the answer that it writes.

    Args:
        loaded: the model.
        text: the prompt or text, not blank.
        label: a label; None: the most probable one.
        answer: an answer; None: the model's own.
        max_new_tokens: most tokens of its own answer.
        seed: of the random orders.
        progress: called with what is computed next.

    Raises:
        ModelError: the text is too long for the model, it has no such label, or its own answer is empty.
    """
    others: tuple[tuple[str, float], ...] = ()
    answer_tokens: tuple[str, ...] = ()
    name, is_given = "", answer is None
    if loaded.mode in (CLASSIFICATION, REGRESSION):
        words = _text_words(loaded, text)
        output, name, others = _head(loaded, words, label)
        is_given = not others or (dict(others).get(name, 0) > EVEN if loaded.several else name == others[0][0])
        answer = ""
    else:
        words = _prompt_words(loaded, text)
        if answer is None:
            progress("writes its answer")
            answer = _own_answer(loaded, text, words, max_new_tokens)
        output, answer_tokens = _answer(loaded, words, answer)
    progress("integrated gradients")
    gradients = attributions.integrated_gradients(output, words, loaded.baseline)
    progress("occlusion")
    occlusion = attributions.occlusion(output, words, loaded.baseline)
    progress("attention")
    attention = _attention(loaded, output, words)
    progress("deletion curves")
    measured = deletion.measure(
        output, words, _by_method(gradients, occlusion, attention), orders=_ORDERS, points=_POINTS, seed=seed
    )
    return Explanation(
        kind=output.kind,
        text=text,
        label=name,
        is_given=is_given,
        answer=answer,
        answer_tokens=answer_tokens,
        shown=float(output.shown([list(words.ids)])[0]),
        others=others,
        words=words.texts,
        tokens=len(words.ids),
        baseline=loaded.baseline_text,
        gradients=gradients,
        occlusion=occlusion,
        attention=attention,
        deletion=measured,
    )


def _by_method(gradients: Gradients, occlusion: np.ndarray, attention: Attention | None) -> dict[str, np.ndarray]:
    found = {GRADIENTS: gradients.words, OCCLUSION: occlusion.sum(axis=0)}
    return found if attention is None else found | {ATTENTION: attention.words}


def _attention(loaded: Loaded, output: ExplainedOutput, words: Words) -> Attention | None:
    if not loaded.has_attention:
        return None
    return attentions.attention(output, words, attentions.positions_of(output, words))


def _text_words(loaded: Loaded, text: str) -> Words:
    [ids] = token_ids.with_special_tokens(loaded.tokenizer, [text])
    _refuse_longer("text", len(ids), loaded.max_length)
    return _words(loaded, ids, range(len(ids)))


def _prompt_words(loaded: Loaded, text: str) -> Words:
    if loaded.mode == CHAT:
        ids, *others = ChatTemplate(loaded.tokenizer).prompts([_turn(one) for one in (text, "0", "一")])
        # What is the same around any text is the template.
        begin = min(_same(ids, other) for other in others)
        end = min(_same(ids[begin:][::-1], other[begin:][::-1]) for other in others)
        places = range(begin, len(ids) - end)
    else:
        ids = [*token_ids.bos_ids(loaded.tokenizer), *token_ids.text_ids(loaded.tokenizer, [text])[0]]
        places = range(len(ids))
    # The first token of an answer is left room.
    _refuse_longer("prompt", len(ids), loaded.max_length - 1)
    return _words(loaded, ids, places)


def _words(loaded: Loaded, ids: Sequence[int], places: Sequence[int]) -> Words:
    words = word_units.split(loaded.tokenizer, ids, places)
    if not words.places:
        raise ModelError("the tokenizer makes no token of the text, so nothing can be explained; give another text")
    return words


def _turn(text: str) -> Conversation:
    return Conversation([{"role": "user", "content": text}], [])


def _same(one: Sequence[int], other: Sequence[int]) -> int:
    """The number of tokens at the beginning that are the same."""
    pairs = zip(one, other, strict=False)
    return next((at for at, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _refuse_longer(what: str, tokens: int, most: int) -> None:
    if tokens > most:
        raise ModelError(
            f"the {what} has {tokens:,} tokens, and the model sees {most:,} of them at once; give a shorter {what}"
        )


def _head(loaded: Loaded, words: Words, label: str | None) -> tuple[HeadOutput, str, tuple[tuple[str, float], ...]]:
    """The output that is explained, the name of its label, and the most probable labels."""
    pad = models.pad_token_id(loaded.tokenizer)
    if loaded.mode == REGRESSION:
        return HeadOutput(loaded.model, pad, 0, is_number=True), "", ()
    found = predictions.outputs(loaded.model, [list(words.ids)], pad=pad, batch_size=1)
    [of_each] = predictions.probabilities(found, several=loaded.several).tolist()
    order = sorted(range(len(of_each)), key=lambda at: (-of_each[at], at))
    if label is not None and label not in loaded.labels:
        close = difflib.get_close_matches(label, loaded.labels, n=1)
        hint = f"did you mean {close[0]}?" if close else f"its labels: {', '.join(loaded.labels[:20])}"
        raise ModelError(f"--label {label}: the model has no such label; {hint}")
    place = order[0] if label is None else loaded.labels.index(label)
    most = tuple((loaded.labels[at], of_each[at]) for at in order[:5])
    return HeadOutput(loaded.model, pad, place, several=loaded.several), loaded.labels[place], most


def _own_answer(loaded: Loaded, text: str, words: Words, max_new_tokens: int) -> str:
    room = loaded.max_length - len(words.ids)
    [answer] = generation.generate(
        loaded.model,
        loaded.tokenizer,
        [text],
        mode=loaded.mode,
        max_new_tokens=min(max_new_tokens, room),
        batch_size=1,
    )
    if not answer:
        raise ModelError("the model's answer is empty, so nothing can be explained; name an answer with --answer TEXT")
    return answer


def _answer(loaded: Loaded, words: Words, answer: str) -> tuple[AnswerOutput, tuple[str, ...]]:
    [ids] = token_ids.continuation_ids(loaded.tokenizer, [answer])
    if not ids:
        raise ModelError("--answer: the answer is empty; give a text")
    if len(words.ids) + len(ids) > loaded.max_length:
        raise ModelError(
            f"prompt and answer have {len(words.ids) + len(ids):,} tokens, and the model sees {loaded.max_length:,} at "
            "once; give a shorter prompt, or a shorter answer with --answer"
        )
    texts = tuple(str(loaded.tokenizer.decode([token], clean_up_tokenization_spaces=False)) for token in ids)
    return AnswerOutput(loaded.model, ids, loaded.baseline, loaded.max_length), texts


@dataclass(frozen=True)
class RowsVersus:
    """An attribution against random orders, over many texts."""

    method: str
    removal: Removal
    """Mean of the texts."""
    gain: Interval
    """The mean area of random orders minus that of the attribution."""

    @property
    def state(self) -> deletion.State:
        """See Versus."""
        if self.gain.low is None or self.gain.high is None:
            return "unsure"
        return deletion.state_of(self.gain.low, self.gain.high)


@dataclass(frozen=True)
class RowsExplanation:
    """The words that decide each label, over many texts."""

    kind: Kind
    labels: tuple[LabelWords, ...]
    texts: int
    """Texts that were explained."""
    cut: int
    """Texts of which the model did not see the end."""
    incomplete: int
    """Texts whose attributions are not complete to TOLERANCE."""
    largest_error: float
    shares: np.ndarray
    random: Removal
    methods: tuple[RowsVersus, ...]
    measured: int
    """Texts with enough words for a deletion curve."""
    baseline: str


def explain_rows(
    loaded: Loaded,
    texts: Sequence[str],
    clusters: Sequence[str],
    *,
    resamples: int,
    seed: int,
    progress: Report = silent,
) -> RowsExplanation:
    """Explain the most probable label, or the number, of each text, and add the attributions of each word up.

    Args:
        loaded: a classifier or a regression.
        texts: as written; the end of a text that is too long is cut off, as in training.
        clusters: of the texts; whole clusters are drawn for the interval.
        resamples: how often.
        seed: of the random orders and the draws.
        progress: called after each text.
    """
    encoded, cut = predictions.encode(loaded.tokenizer, texts, loaded.max_length)
    given: list[str] = []
    explained: list[tuple[Sequence[str], np.ndarray]] = []
    curves: list[tuple[np.ndarray, np.ndarray]] = []
    groups: list[str] = []
    errors: list[tuple[float, bool]] = []
    kind: Kind = "label"
    progress(0, len(texts))
    for number, (ids, cluster) in enumerate(zip(encoded, clusters, strict=True)):
        words = word_units.split(loaded.tokenizer, ids, range(len(ids)))
        if not words.places:
            continue
        output, label, _ = _head(loaded, words, None)
        kind = output.kind
        gradients = attributions.integrated_gradients(output, words, loaded.baseline)
        attention = _attention(loaded, output, words)
        errors.append((gradients.error, gradients.is_complete))
        given.append(label)
        explained.append((words.texts, gradients.words))
        if len(words.places) >= deletion.FEWEST_WORDS:
            ranked = [gradients.words] + ([] if attention is None else [attention.words])
            drawn = deletion.random_orders(len(words.places), _ORDERS_OF_ROWS, seed + number)
            orders = [*map(deletion.order_of, ranked), *drawn]
            curves.append(deletion.curves(output, words, orders, _POINTS_OF_ROWS))
            groups.append(cluster)
        progress(number + 1, len(texts))
    methods = (GRADIENTS, ATTENTION) if loaded.has_attention else (GRADIENTS,)
    shares = np.arange(_POINTS_OF_ROWS + 1) / _POINTS_OF_ROWS
    versus, random = _versus(curves, groups, methods, shares, resamples, seed)
    names = loaded.labels if kind == "label" else ("",)
    return RowsExplanation(
        kind=kind,
        labels=tuple(deciding_words.by_label(names, given, explained)),
        texts=len(explained),
        cut=len(cut),
        incomplete=sum(not is_complete for _, is_complete in errors),
        largest_error=max((error for error, _ in errors), default=0.0),
        shares=shares,
        random=random,
        methods=versus,
        measured=len(curves),
        baseline=loaded.baseline_text,
    )


def _versus(
    curves: Sequence[tuple[np.ndarray, np.ndarray]],
    groups: Sequence[str],
    methods: Sequence[str],
    shares: np.ndarray,
    resamples: int,
    seed: int,
) -> tuple[tuple[RowsVersus, ...], Removal]:
    """The mean curves of all texts, and the paired bootstrap of the areas."""
    if not curves:
        return (), Removal(np.zeros(len(shares)), 0.0)
    # Short texts have fewer points.
    at = np.stack([[np.interp(shares, own, values) for values in of_text] for own, of_text in curves])
    areas = np.stack([deletion.area(own, of_text) for own, of_text in curves])
    known = methods[: at.shape[1] - _ORDERS_OF_ROWS]
    random_areas = areas[:, len(known) :].mean(axis=1)
    random = Removal(at[:, len(known) :].mean(axis=(0, 1)), float(random_areas.mean()))
    found = []
    for place, method in enumerate(known):
        gain = intervals.paired_bootstrap(
            metrics.mean("area", random_areas),
            metrics.mean("area", areas[:, place]),
            groups=groups,
            resamples=resamples,
            seed=seed,
        )["area"]
        found.append(RowsVersus(method, Removal(at[:, place].mean(axis=0), float(areas[:, place].mean())), gain))
    return tuple(found), random


def sample(count: int, most: int, seed: int) -> list[int]:
    """The places of at most `most` of `count` rows, drawn at random, in ascending order."""
    if count <= most:
        return list(range(count))
    generator = torch.Generator().manual_seed(seed)
    drawn: Any = torch.randperm(count, generator=generator)[:most].tolist()
    return sorted(drawn)
