"""Section `data`: which raw set, how it is read, cleaned and split."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from tuneline.params.paths import ProjectPath
from tuneline.params.section import Fraction, Section


def _known_encoding(value: str) -> str:
    try:
        "".encode(value)
    except LookupError:
        raise ValueError("is not an encoding that Python knows; utf-8, gb18030 and latin-1 are examples") from None
    return value


class Split(Section):
    group_by: str | None
    """Column whose value keeps rows together; None: rows with the same normalised prompt (or text)."""
    order_by: str | None
    """Column of dates or numbers: the newest rows are held out, from the two values below; None: split by hash."""
    validation_from: str | None
    """Rows from this value of `order_by` on are validation."""
    test_from: str | None
    """Rows from this value of `order_by` on are test. A fixed value: more rows move none out of test."""
    validation: Annotated[float, Field(gt=0.0, lt=0.5)]
    """Share of the groups; of no meaning where rows are split by order."""
    test: Annotated[float, Field(gt=0.0, lt=0.5)]
    """Share of the groups; of no meaning where rows are split by order."""
    folds: Annotated[int, Field(ge=2, le=100)] | None
    """Number of folds for cross-validation: a column `fold` of train and validation, by the hash of the group."""
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)]

    @model_validator(mode="after")
    def _order_has_bounds(self) -> "Split":
        bounds = (self.validation_from, self.test_from)
        if (self.order_by is None) != (bounds == (None, None)) or (self.order_by and None in bounds):
            raise PydanticCustomError(
                "order_and_bounds", "order_by, validation_from and test_from belong together: give all three, or none"
            )
        return self


Policy = Literal["report", "mask", "drop"]


class Secrets(Section):
    """What is done with a row that holds a secret or a personal datum of a kind."""

    email: Policy
    phone: Policy
    id_number: Policy
    """National identity numbers with a valid check digit."""
    card: Policy
    """Payment cards with a valid check digit (Luhn)."""
    key: Policy
    """Private keys, access tokens and passwords in addresses."""


Mend = Literal["report", "repair", "drop"]


class Damaged(Section):
    """What is done with a row that shows damage of a kind, as `data/reading/guards/damage.py` describes them."""

    mojibake: Mend
    """Text that was decoded wrongly, once or twice."""
    control: Mend
    """C1 control characters; repaired as the characters of Windows-1252 that they stand for."""
    direction: Mend
    """Characters that turn the direction of writing where nothing runs from right to left; repaired: taken out."""
    invisible: Mend
    """Characters that nobody sees; repaired: taken out."""
    replacement: Literal["report", "drop"]
    """U+FFFD, which nothing repairs."""


RAW, PRETRAINING = "raw", "pretraining"
"""What accounts and mixtures call the sets of `data.raw` and `data.pretraining`."""


class MixtureSet(Section):
    """How much of a further set is trained beside `data.raw`."""

    weight: Annotated[float, Field(gt=0.0, le=1000.0)]
    """How often each of its examples comes in an epoch; 0.1: a tenth of them, and in the next epoch another tenth."""
    max_examples: Annotated[int, Field(ge=1, lt=2**63)] | None = None
    """Of the set at most, drawn by `finetune.seed`; None: all."""


Encoding = Annotated[str, AfterValidator(_known_encoding)]
Layout = Literal["rows", "documents"]


class SetReading(Section):
    """How a set other than `data.raw` is read where that is not as rows of UTF-8 of known shapes."""

    encoding: Encoding | None = None
    """None: UTF-8."""
    layout: Layout | None = None
    """None: rows."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Field of the record -> column of the file; empty: known names are recognised."""
    exclude: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list)
    """Files that are left out, as `data.exclude` says it of `raw`."""


class Data(Section):
    raw: ProjectPath
    """The set to fine-tune on: a folder under data/raw."""
    pretraining: ProjectPath
    """The set that a builtin base is pretrained on."""
    frozen_pretraining: bool
    """True: that set is kept as it is, so that a builtin base stays: held-out rows that it gives away are dropped.
    False: its own text is dropped where it gives away what is held out."""
    mixture: dict[str, MixtureSet]
    """Sets that are trained beside `raw`: a folder in paths.mixture, or `pretraining` -> how much of it."""
    encoding: Encoding
    """Of the files of `raw`; of no other set."""
    layout: Layout
    """Plain text of `raw`: one row per line, or one document per file."""
    exclude: list[Annotated[str, Field(min_length=1)]]
    """Files of `raw` that are left out: a name or a pattern as in `*.md`, or a path from the folder of the set."""
    columns: dict[str, str]
    """Field of the record -> column of the files of `raw`; empty: known names are recognised."""
    reading: dict[str, SetReading]
    """`pretraining`, or the name of a set of the mixture -> how it is read; a set without an entry: UTF-8, rows."""
    max_rejected_fraction: Fraction
    """Of the rows of a set; above it `prepare` stops."""
    secrets: Secrets
    damaged: Damaged
    near_duplicates: Annotated[float, Field(ge=0.5, le=1.0)] | None
    """Jaccard similarity of character 5-grams (3-grams where words have no blanks) from which two rows are one; None:
    only exact duplicates are dropped."""
    max_overlap: Fraction
    """Share of a held-out row's 8-grams that a training row may hold before it is removed from training."""
    split: Split
    workers: Annotated[int, Field(ge=1, le=1024)]
    """Processes that prepare large sets; changes no result."""
    scheduler: Annotated[str, Field(pattern=r"^(tcp|tls|ws|wss)://")] | None
    """Address of a Dask cluster that prepares large sets; None: processes on this machine."""
