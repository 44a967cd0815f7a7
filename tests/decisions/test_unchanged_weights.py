"""A fine-tuned model that is its base is no model that a gate may pass."""

from pathlib import Path

from tuneline.decisions import unchanged_weights
from tuneline.params import Params


def test_a_candidate_with_the_weights_of_its_base_is_found(project: Params) -> None:
    base, finetuned = Path(project.paths.base), Path(project.paths.finetuned)
    for folder in (base, finetuned):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.safetensors").write_bytes(b"the same weights")
    why = unchanged_weights.find(project)
    assert why is not None
    assert why.startswith("the fine-tuned model has the weights of its base, because no later step was better")
    (finetuned / "model.safetensors").write_bytes(b"the same weightS")
    assert unchanged_weights.find(project) is None
    (finetuned / "model.safetensors").unlink()
    assert unchanged_weights.find(project) is None
