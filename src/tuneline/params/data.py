"""Section `data`: the raw set, and how it is read, cleaned and split."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from tuneline.params.augment import Augment
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
    """Rows with the same value of this column are in the same split; None: the same normalised prompt or text."""
    order_by: str | None
    """Column of dates or numbers: the newest rows are held out, from the two values below on; None: split by hash."""
    validation_from: str | None
    """Rows from this value of `order_by` on are validation."""
    test_from: str | None
    """Rows from this value of `order_by` on are test. New rows do not move a row out of test."""
    validation: Annotated[float, Field(gt=0.0, lt=0.5)]
    """Share of the groups; ignored with `order_by`."""
    test: Annotated[float, Field(gt=0.0, lt=0.5)]
    """Share of the groups; ignored with `order_by`."""
    folds: Annotated[int, Field(ge=2, le=100)] | None
    """Number of folds for cross-validation: a column `fold` of train and validation, by the hash of the group."""
    seed: Annotated[int, Field(ge=-(2**63), lt=2**63)]

    @model_validator(mode="after")
    def _order_has_bounds(self) -> "Split":
        bounds = (self.validation_from, self.test_from)
        if (self.order_by is None) != (bounds == (None, None)) or (self.order_by and None in bounds):
            raise PydanticCustomError(
                "order_and_bounds", "order_by, validation_from and test_from belong together; set all three, or none"
            )
        return self


Policy = Literal["report", "mask", "drop"]


class Secrets(Section):
    """What is done with a row that contains a secret or personal data."""

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
    """What is done with a damaged row; `data/reading/guards/damage.py` describes each kind of damage."""

    mojibake: Mend
    """Text that was decoded wrongly, once or twice."""
    control: Mend
    """C1 control characters; repaired to the characters of Windows-1252 with the same code."""
    direction: Mend
    """Marks of writing direction in a text without right-to-left script; repaired: removed."""
    invisible: Mend
    """Invisible characters; repaired: removed."""
    replacement: Literal["report", "drop"]
    """U+FFFD, which cannot be repaired."""


OWN_TEXT = "-pretraining"
"""`tuneline use` writes the text of the raw set's training rows into a folder of its name with this at the end."""

RAW, PRETRAINING = "raw", "pretraining"
"""The names of the sets of `data.raw` and `data.pretraining` in reports and mixtures."""


class MixtureSet(Section):
    """How much of another set is trained together with `data.raw`."""

    weight: Annotated[float, Field(gt=0.0, le=1000.0)]
    """How often an epoch shows each example of the set; 0.1: a tenth of them, and another tenth in the next epoch."""
    max_examples: Annotated[int, Field(ge=1, lt=2**63)] | None = None
    """The most examples of the set, drawn with `finetune.seed`; None: all."""


Encoding = Annotated[str, AfterValidator(_known_encoding)]
Layout = Literal["rows", "documents"]


class SetReading(Section):
    """How a set other than `data.raw` is read, if it is not rows in UTF-8 with known columns."""

    encoding: Encoding | None = None
    """None: UTF-8."""
    layout: Layout | None = None
    """None: rows."""
    columns: dict[str, str] = Field(default_factory=dict)
    """Field of the record -> column of the file; empty: known names are recognised."""
    exclude: list[Annotated[str, Field(min_length=1)]] = Field(default_factory=list)
    """Files of the set that are not read; as `data.exclude`."""


class Data(Section):
    raw: ProjectPath
    """The set to fine-tune on: a folder under data/raw."""
    pretraining: ProjectPath
    """The set that a builtin base is pretrained on."""
    frozen_pretraining: bool
    """True: the pretraining set is never changed, so a builtin base stays valid; held-out rows that it contains are
    dropped. False: its texts that contain held-out rows are dropped."""
    mixture: dict[str, MixtureSet]
    """Sets that are trained together with `raw`: the name of a folder in paths.mixture, or `pretraining`."""
    augment: Annotated[Augment, Field(examples=[{}])]
    """Variants of training rows that are trained beside them; no held-out row gets any."""
    general: str | None
    """The set of paths.mixture on which forgetting is measured; None: the held-out pretraining text of a builtin
    base."""
    canaries: Annotated[int, Field(ge=0, le=10_000, examples=[0])]
    """Random rows that are added to the training split, to measure whether the model can recall them."""
    encoding: Encoding
    """The encoding of the files of `raw`."""
    layout: Layout
    """Plain text of `raw`: one row per line, or one document per file."""
    exclude: list[Annotated[str, Field(min_length=1)]]
    """Files of `raw` that are not read: a name, a pattern such as `*.md`, or a path in the folder of the set."""
    columns: dict[str, str]
    """Field of the record -> column of the files of `raw`; empty: known names are recognised."""
    keep_columns: list[Annotated[str, Field(min_length=1)]]
    """Columns of `raw` that are no field of a record and are carried to the clean splits all the same, for slices. A
    change trains again, because the clean splits change."""
    reading: dict[str, SetReading]
    """`pretraining`, or the name of a set of the mixture -> how it is read; a set without an entry: UTF-8, rows."""
    max_rejected_fraction: Fraction
    """Share of the rows of a set that may be rejected; above it `prepare` stops."""
    secrets: Secrets
    damaged: Damaged
    near_duplicates: Annotated[float, Field(ge=0.5, le=1.0)] | None
    """Jaccard similarity of character 5-grams (3-grams in scripts without spaces) from which two rows are duplicates;
    None: only exact duplicates are dropped."""
    max_overlap: Fraction
    """Share of a held-out row's 8-grams that a training row may contain; with more it is removed from training."""
    split: Split
    workers: Annotated[int, Field(ge=1, le=1024)]
    """Processes that prepare large sets; the result does not depend on it."""
    scheduler: Annotated[str, Field(pattern=r"^(tcp|tls|ws|wss)://")] | None
    """Address of a Dask cluster that prepares large sets; None: processes on this machine."""

    @property
    def pretrains_on_raw(self) -> bool:
        """Whether a builtin base is pretrained on the text of the raw set, so that no general text is held out."""
        return self.pretraining in (self.raw, self.raw + OWN_TEXT)
