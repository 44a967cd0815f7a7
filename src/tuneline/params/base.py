"""Section `base`: the model that is fine-tuned."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from tuneline.params.paths import ProjectPath
from tuneline.params.section import Length, Positive, Section
from tuneline.params.training import Schedule


class Builtin(Schedule):
    """A byte-level BPE tokenizer and a Llama, trained from random weights on the pretraining text."""

    vocab_size: Annotated[int, Field(ge=300, le=2**24)]
    """The most tokens: 256 bytes, the special tokens, and merges. A small text gives fewer."""
    min_frequency: Positive
    """How often two tokens must be adjacent in the text before they are merged; the model cannot learn rare tokens."""
    hidden_size: Annotated[int, Field(ge=1, le=2**17)]
    intermediate_size: Annotated[int, Field(ge=1, le=2**20)]
    num_hidden_layers: Annotated[int, Field(ge=1, le=1_000)]
    num_attention_heads: Annotated[int, Field(ge=1, le=2**16)]
    tie_word_embeddings: bool
    """Whether the embeddings and the output head are the same matrix."""
    max_length: Length
    """The most tokens that the model sees at once."""
    document_length: Length
    """Tokens of a packed row, and the most tokens of a text; the rest of the text is not used."""
    per_device_train_batch_size: Positive | None
    """Packed rows of a step. Unlike in `finetune` it may be null: as many as give STEPS_OF_EPOCH steps per epoch, at
    most MOST_ROWS (both in pretraining/pretrain.py)."""

    @field_validator("num_train_epochs")
    @classmethod
    def _is_trained(cls, value: float) -> float:
        if not value:
            raise ValueError("input should be greater than 0: a builtin base begins with random weights")
        return value

    @model_validator(mode="after")
    def _sizes_fit(self) -> "Builtin":
        if self.hidden_size % (2 * self.num_attention_heads):
            raise ValueError(
                f"hidden_size {self.hidden_size} must be a multiple of twice num_attention_heads "
                f"{self.num_attention_heads}"
            )
        if self.document_length > self.max_length:
            raise ValueError(f"document_length {self.document_length} is more than max_length {self.max_length}")
        return self


class Base(Section):
    source: Literal["builtin", "path", "hub", "merge"]
    input: ProjectPath
    """builtin: the pretraining text; path: a folder under DVC; hub: a YAML file of `id` and `revision`;
    merge: the folder under DVC that `tuneline merge` wrote."""
    builtin: Builtin
