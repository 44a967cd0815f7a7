from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from tuneline.evaluation import predictions
from tuneline.modeling import models

TEXTS = ["Return the area of a rectangle. " * 4, "x", "把一个字符串倒过来。", "Open a file and read it all.", ""]


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_a_batch_gives_the_outputs_of_each_text_alone(
    family: str, families: dict[str, PreTrainedModel], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    models.save(families[family], tokenizer, tmp_path / "base")
    model, tokens = models.new_classifier(tmp_path / "base", ["a", "b", "c"], "single_label_classification", 0)
    encoded, cut = predictions.encode(tokens, TEXTS, 24)
    assert cut == [0]
    seen: list[tuple[float, float]] = []
    pad = models.pad_token_id(tokens)
    found = predictions.outputs(model, encoded, pad=pad, batch_size=2, progress=lambda *done: seen.append(done))
    for row, text in enumerate(TEXTS[:4]):
        ids = tokens(text)["input_ids"][:24]  # pyright: ignore[reportIndexIssue]
        with torch.no_grad():
            alone = model(input_ids=torch.tensor([ids])).logits[0].numpy()
        np.testing.assert_allclose(found[row], alone, rtol=1e-4, atol=1e-5)
    assert seen == [(2, 5), (4, 5), (5, 5)]
    assert predictions.outputs(model, [], pad=pad, batch_size=2).shape == (0, 3)


def test_a_single_label_is_the_most_probable_one() -> None:
    labels, probabilities = predictions.labels(
        np.array([[0.0, np.log(3)], [1000.0, -1000.0]]), ["a", "b"], several=False
    )
    assert labels == ["b", "a"]
    assert probabilities == pytest.approx([0.75, 1.0])


def test_several_labels_are_those_above_even_odds_with_the_probability_of_the_least_sure() -> None:
    outputs = np.array([[np.log(9), np.log(3)], [-1000.0, 1000.0], [-np.log(4), -np.log(9)]])
    labels, probabilities = predictions.labels(outputs, ["b", "a"], several=True)
    assert labels == ['["a","b"]', '["a"]', "[]"]
    assert probabilities == pytest.approx([0.75, 1.0, 0.8])
