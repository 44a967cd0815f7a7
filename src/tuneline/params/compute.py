"""Section `compute`: what of the machine is part of a model's identity.

Nothing here is found out at run time: what is measured (`tuneline doctor`) is a recommendation, and a person writes it
down.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tuneline.params.section import Section


class Compute(Section):
    threads: Annotated[int, Field(ge=1, le=1024)]
    """Threads of one operation; sums in another order give other bits, so this is no matter of taste."""
    device: Literal["cpu", "cuda"]
    """Where training computes; evaluation and answers are computed on the processor, in float32."""
    precision: Literal["float32", "bfloat16"]
    """Of multiplications in training; weights and sums stay in float32. Needs hardware that has bfloat16."""
    attn_implementation: Literal["eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention"] | None
    """By transformers' names; null: what it takes for the model's family."""
    torch_compile: bool
    """Whether the model is compiled before it is trained."""

    @model_validator(mode="after")
    def _fits_the_device(self) -> "Compute":
        needing = {
            f"attn_implementation {self.attn_implementation}": "fl" in (self.attn_implementation or ""),
            "torch_compile": self.torch_compile,
        }
        wrong = [name for name, asked in needing.items() if asked and self.device == "cpu"]
        if wrong:
            raise ValueError(f"{' and '.join(wrong)} need a GPU; set device to cuda, or remove what needs it")
        return self
