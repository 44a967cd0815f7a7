"""Section `data.augment`: variants of training rows that are trained beside them."""

from collections.abc import Container, Iterator
from typing import Annotated, NamedTuple

from pydantic import Field

from tuneline.params.paths import ProjectPath
from tuneline.params.section import Section, one_of

NOISE = ("word_dropout", "word_swap", "keyboard_noise", "ocr_noise")
"""The kinds of `data.augment.noise`."""

Weight = Annotated[float, Field(gt=0.0, le=1000.0)]
"""As of a mixture: how often an epoch shows each variant; 0.5: half of them, and the other half in the next epoch."""
Share = Annotated[float, Field(gt=0.0, lt=1.0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,49}$")]
"""It becomes the name of a folder and of a stage."""


class Noise(Section):
    """One variant of each training row, by chance."""

    weight: Weight
    p: Share
    """The probability with which a word (dropout), a pair of neighbours (swap) or a character is changed."""
    completion: bool = False
    """sft: whether the completion, or the assistant's turns, are changed too, and not only the prompt."""


class Synonyms(Section):
    """One variant of each training row in which words of a table are replaced."""

    weight: Weight
    p: Share
    """The probability with which a word that the table has is replaced."""
    table: ProjectPath
    """A CSV, TSV or YAML file of words and their synonyms."""
    completion: bool = False
    """As of `Noise`."""


class BackTranslation(Section):
    """One variant of each training row: translated into another language and back."""

    weight: Weight
    model: ProjectPath
    """The folder of a translation model into the other language."""
    back: ProjectPath
    """The folder of a translation model from there."""


class Variant(NamedTuple):
    """What params.yaml says of the variants of one name."""

    name: str
    key: str
    """Its place in params.yaml."""
    settings: Noise | Synonyms | BackTranslation


class Augment(Section):
    # The three may be left out, because DVC has an empty group of each; see `vars` in dvc.yaml.
    noise: dict[one_of(NOISE), Noise] = Field(default_factory=dict)  # pyright: ignore[reportInvalidTypeForm]
    """Kind -> how much of it."""
    synonyms: dict[Name, Synonyms] = Field(default_factory=dict)
    """A name of your choice -> a table."""
    back_translation: dict[Name, BackTranslation] = Field(default_factory=dict)
    """A name of your choice -> two models."""

    def variants(self) -> Iterator[Variant]:
        """The variants in the order in which they are trained."""
        for group, named in (
            ("noise", self.noise),
            ("synonyms", self.synonyms),
            ("back_translation", self.back_translation),
        ):
            for name in sorted(named):
                yield Variant(name, f"data.augment.{group}.{name}", named[name])

    def without(self, names: Container[str]) -> "Augment":
        """The section without the variants of these names."""
        groups = {"noise": self.noise, "synonyms": self.synonyms, "back_translation": self.back_translation}
        left = {
            group: {name: settings for name, settings in named.items() if name not in names}
            for group, named in groups.items()
        }
        return self.model_copy(update=left)
