"""Attributions of an output to the words of a text, by Captum: integrated gradients, and occlusion.

It is the only module that imports Captum, which is an extra.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from tuneline.errors import ModelError
from tuneline.explanation.explained_output import ExplainedOutput
from tuneline.explanation.word_units import Words

TOLERANCE = 1e-3
"""The sum of the attributions is complete if it differs by less from the difference of the outputs, or by less than
this share of a difference above 1."""
_FEWEST_STEPS, _MOST_STEPS = 32, 512


@dataclass(frozen=True)
class Gradients:
    """Integrated gradients of the score of an output."""

    words: np.ndarray
    """[words]: by how much each word raises the score, compared with a text of baseline tokens."""
    score: float
    baseline_score: float
    """Of the text in which the baseline token has replaced each word."""
    steps: int
    """Points on the straight line from the baseline to the text."""

    @property
    def total(self) -> float:
        """The sum of the attributions."""
        return float(self.words.sum())

    @property
    def difference(self) -> float:
        """The score minus that of the baseline, which the attributions must sum up to."""
        return self.score - self.baseline_score

    @property
    def error(self) -> float:
        """The sum of the attributions minus the difference, without its sign."""
        return abs(self.total - self.difference)

    @property
    def is_complete(self) -> bool:
        """Whether the sum is the difference, to TOLERANCE."""
        return self.error <= TOLERANCE * max(1.0, abs(self.difference))


def integrated_gradients(output: ExplainedOutput, words: Words, baseline: int) -> Gradients:
    """Integrated gradients (Sundararajan et al. 2017) of the token embeddings, summed over each word.

    The number of steps is doubled until the attributions are complete.

    Args:
        output: what is explained.
        words: the text; tokens of no word, and the tokens after the text, are the same in the baseline.
        baseline: the token that replaces each token of a word.

    Raises:
        ModelError: the model has no layer of token embeddings that can be followed.
    """
    from captum.attr import LayerIntegratedGradients  # pyright: ignore[reportMissingImports]

    model, layer = output.model, output.model.get_input_embeddings()
    ids = torch.tensor([[*words.ids, *output.after]], device=model.device)
    other = torch.tensor([[*words.replaced_by(baseline), *output.after]], device=model.device)

    def score(tokens: Tensor) -> Tensor:
        return _summed(output.scores(tokens))

    explained = LayerIntegratedGradients(score, layer)
    with torch.no_grad():
        whole = float(score(ids).double())
        embedded = layer(other)
        # The tokens stay, so that a head finds its place by the padding as it does for the text.
        hook = layer.register_forward_hook(lambda *_: embedded)
        try:
            empty = float(score(ids).double())
        finally:
            hook.remove()
    steps = _FEWEST_STEPS
    while True:
        try:
            found = explained.attribute(
                ids, other, n_steps=steps, internal_batch_size=output.rows_at_once(ids.shape[1])
            )
        except (KeyError, IndexError, AssertionError) as error:
            raise ModelError(
                f"{type(model).__name__}: its token embeddings cannot be followed ({type(error).__name__}: {error}), "
                "so its outputs are not explained"
            ) from None
        assert isinstance(found, Tensor)
        by_token = found.detach().double().sum(dim=-1)[0].cpu().numpy()
        gradients = Gradients(_by_word(by_token, words), whole, empty, steps)
        if gradients.is_complete or steps >= _MOST_STEPS:
            return gradients
        steps *= 2


def occlusion(output: ExplainedOutput, words: Words, baseline: int) -> np.ndarray:
    """By how much the score falls if the baseline token replaces a word (Zeiler and Fergus 2014).

    Returns:
        [tokens of the answer, words]; of a label or a number [1, words].
    """
    from captum.attr import FeatureAblation  # pyright: ignore[reportMissingImports]

    ids = torch.tensor([[*words.ids, *output.after]], device=output.model.device)
    # 0: what is always kept, and is replaced by itself.
    of_token = np.zeros(ids.shape[1], np.int64)
    for number, places in enumerate(words.places, start=1):
        of_token[list(places)] = number
    kept = of_token == 0
    other = ids.clone()
    other[0, torch.from_numpy(~kept).to(ids.device)] = baseline
    with torch.inference_mode():
        found = FeatureAblation(output.scores).attribute(
            ids,
            baselines=other,
            feature_mask=torch.from_numpy(of_token[None]).to(ids.device),
            perturbations_per_eval=output.rows_at_once(ids.shape[1]),
        )
    by_token = found.double().cpu().numpy()
    # Each token of a word has the effect of the whole word.
    return np.stack([by_token[:, places[0]] for places in words.places], axis=1)


def _summed(scores: Tensor) -> Tensor:
    return scores.sum(dim=1) if scores.dim() > 1 else scores


def _by_word(by_token: np.ndarray, words: Words) -> np.ndarray:
    return np.array([by_token[list(places)].sum() for places in words.places])
