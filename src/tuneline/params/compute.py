"""Section `compute`: the settings of the machine that are part of a model's identity.

Nothing here is measured at run time. `tuneline doctor` measures and recommends values; a person writes them down.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tuneline.params.section import Section


class Compute(Section):
    threads: Annotated[int, Field(ge=1, le=1024)]
    """Threads of one operation. Another number gives other bits, because sums have another order."""
    device: Literal["cpu", "cuda"]
    """The device of training. Evaluation always runs on the processor, in float32: its scores can be repeated on a
    machine without a GPU."""
    precision: Literal["float32", "bfloat16"]
    """The precision of multiplications in training; weights and sums stay in float32. bfloat16 needs such hardware."""
    attn_implementation: Literal["eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"] | None
    """A name of transformers; null: its default for the model's family."""
    torch_compile: bool
    """Whether the model is compiled before it is trained."""
    portable: Annotated[bool, Field(examples=[False])]
    """Whether different x86 processors write the same bytes: all libraries are restricted to AVX2. It takes longer."""

    @model_validator(mode="after")
    def _fits_the_device(self) -> "Compute":
        needing = {
            f"attn_implementation {self.attn_implementation}": "fl" in (self.attn_implementation or ""),
            "torch_compile": self.torch_compile,
        }
        wrong = [name for name, asked in needing.items() if asked and self.device == "cpu"]
        if wrong:
            raise ValueError(f"{' and '.join(wrong)} need a GPU; set device to cuda, or remove what needs it")
        beyond = {"device cuda": self.device == "cuda", "precision bfloat16": self.precision == "bfloat16"}
        wrong = [name for name, asked in beyond.items() if asked and self.portable]
        if wrong:
            raise ValueError(
                f"portable does not fit {' and '.join(wrong)}, which choose their own instructions; set device to cpu "
                "and precision to float32, or portable to false"
            )
        return self
