"""Section data.augment: what may be asked for, and what a person reads who asks for something else."""

from pathlib import Path
from typing import Any

import pytest

from tuneline import params
from tuneline.errors import ParamsError
from tuneline.params import editing


def load(tmp_path: Path, text: str, augment: dict[str, Any], **more: Any) -> params.Params:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    editing.set_values(
        path, {"data.augment": augment, **{key.replace("__", "."): value for key, value in more.items()}}
    )
    return params.load(path)


def test_every_variant_has_its_name_and_place(tmp_path: Path, params_text: str) -> None:
    assert not any(load(tmp_path, params_text, {}).data.augment.variants())
    p = load(
        tmp_path,
        params_text,
        {
            "noise": {"word_swap": {"weight": 0.5, "p": 0.1}, "ocr_noise": {"weight": 1.0, "p": 0.2}},
            "synonyms": {"hotel": {"weight": 0.5, "p": 0.3, "table": "data/synonyms.csv"}},
            "back_translation": {"german": {"weight": 0.5, "model": "models/en-de", "back": "models/de-en"}},
        },
    )
    assert [(name, key) for name, key, _ in p.data.augment.variants()] == [
        ("ocr_noise", "data.augment.noise.ocr_noise"),
        ("word_swap", "data.augment.noise.word_swap"),
        ("hotel", "data.augment.synonyms.hotel"),
        ("german", "data.augment.back_translation.german"),
    ]
    assert p.paths.augmented == "data/clean-augmented"


SWAP = {"weight": 0.5, "p": 0.1}


@pytest.mark.parametrize(
    ("augment", "said"),
    [
        ({"noise": {"word_swop": SWAP}}, r"data\.augment\.noise\.word_swop: .*is unknown; did you mean word_swap\?"),
        ({"nois": {"word_swap": SWAP}}, r"data\.augment\.nois: unknown key; did you mean noise\?"),
        ({"noise": {"word_swap": {**SWAP, "p": 1.0}}}, r"noise\.word_swap\.p: 1\.0: input should be less than 1"),
        ({"noise": {"word_swap": {**SWAP, "p": 0.0}}}, r"noise\.word_swap\.p: 0\.0: input should be greater than 0"),
        ({"noise": {"word_swap": {**SWAP, "weight": 0}}}, r"word_swap\.weight: 0: input should be greater than 0"),
        ({"noise": {"word_swap": {"p": 0.1}}}, r"noise\.word_swap\.weight: missing; add a line `weight: NUMBER`"),
        ({"noise": {"word_swap": None}}, r"data\.augment\.noise\.word_swap: None: input should be a valid dictionary"),
        (
            {"synonyms": {"../x": {**SWAP, "table": "data/s.csv"}}},
            r"data\.augment\.synonyms\.\.\./x: '\.\./x': string should match pattern",
        ),
        ({"synonyms": {"hotel": SWAP}}, r"data\.augment\.synonyms\.hotel\.table: missing; add a line `table: TEXT`"),
        (
            {"synonyms": {"hotel": {**SWAP, "table": "/tmp/s.csv"}}},
            r"synonyms\.hotel\.table: '/tmp/s\.csv': must be a path inside the project",
        ),
        (
            {"noise": {"word_swap": SWAP}, "synonyms": {"word_swap": {**SWAP, "table": "data/s.csv"}}},
            r"synonyms\.word_swap: 'word_swap' is the name of data\.augment\.noise\.word_swap too.*use another name",
        ),
        (
            {"synonyms": {"raw": {**SWAP, "table": "data/s.csv"}}},
            r"data\.augment\.synonyms\.raw: 'raw' is the name of data\.raw too",
        ),
        (
            {"back_translation": {"de": {"weight": 1.0, "model": "models/finetuned", "back": "models/de"}}},
            r"paths\.finetuned: 'models/finetuned' overlaps data\.augment\.back_translation\.de\.model",
        ),
    ],
)
def test_what_cannot_be_is_told_with_its_line(
    tmp_path: Path, params_text: str, augment: dict[str, Any], said: str
) -> None:
    with pytest.raises(ParamsError, match=said):
        load(tmp_path, params_text, augment)


def test_only_pairs_have_a_completion_to_change(tmp_path: Path, params_text: str) -> None:
    augment = {"noise": {"word_swap": {**SWAP, "completion": True}}}
    assert load(tmp_path, params_text, augment).data.augment.noise["word_swap"].completion
    with pytest.raises(ParamsError, match=r"word_swap\.completion: .*has no meaning for task language-modeling"):
        load(tmp_path, params_text, augment, task="language-modeling")
