"""The training log: one line per logged step, the same with and without a kill."""

from dataclasses import asdict, dataclass, field
from itertools import dropwhile
from pathlib import Path
from typing import Any

from tuneline.core import files

_COLUMNS = ("step", "tokens", "loss", "learning_rate", "grad_norm", "eval_loss")


@dataclass
class History:
    """The measures up to a step, and the sums since the last logged step. Every checkpoint contains it."""

    lines: list[dict[str, float]] = field(default_factory=list)
    """Each with `step`, and with the measures that were taken at that step."""
    tokens: int = 0
    """Tokens of training so far, without padding."""
    supervised_tokens: int = 0
    """Supervised tokens so far; for tasks with one label per row, the rows."""
    sums: dict[str, float] = field(default_factory=dict)
    """The sums of `loss` and of other averaged measures since the last logged step."""
    weight: float = 0.0
    """What `sums` are divided by."""

    def add(self, sums: dict[str, float], weight: float, *, supervised: int, tokens: int) -> None:
        """Add the sums, the weight and the tokens of one batch."""
        for name, value in sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.weight += weight
        self.supervised_tokens += supervised
        self.tokens += tokens

    def take_means(self) -> dict[str, float]:
        """The means since the last call; the sums start again at 0."""
        means = {name: value / (self.weight or 1) for name, value in self.sums.items()}
        self.sums, self.weight = {}, 0.0
        return means

    def record(self, step: int, measures: dict[str, float]) -> dict[str, float]:
        """Add measures to the line of `step`, and give them back together with `tokens`."""
        measures = {"tokens": self.tokens, **measures}
        if not self.lines or self.lines[-1]["step"] != step:
            self.lines.append({"step": step})
        self.lines[-1] |= measures
        return measures

    def best(self, measure: str) -> int | None:
        """The first step with the best value of `measure`; None if it was never measured on trained weights.

        A warm-up begins with the rate 0: until a step with a higher rate the weights are still those before training.
        """
        trained = dropwhile(lambda line: line.get("learning_rate") == 0, self.lines)
        measured = [line for line in trained if measure in line]
        if not measured:
            return None
        sign = 1 if is_better_when_lower(measure) else -1
        return int(min(measured, key=lambda line: sign * line[measure])["step"])

    def since_best(self, measure: str) -> int:
        """How often `measure` was measured after its best value."""
        best = self.best(measure)
        return sum(measure in line and line["step"] > best for line in self.lines) if best is not None else 0

    def write(self, path: Path) -> None:
        """Write everything to a file, for `read`."""
        files.write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> "History":
        """Read the file that `write` has written."""
        stored: dict[str, Any] = files.read_json(path)
        return cls(**stored)

    def csv(self) -> str:
        """The lines as CSV; a measure that was not taken is empty."""
        others = dict.fromkeys(name for line in self.lines for name in line if name not in _COLUMNS)
        columns = [*_COLUMNS, *others]
        rows = [",".join(columns)]
        rows += [",".join(_cell(line.get(column)) for column in columns) for line in self.lines]
        return "\n".join(rows) + "\n"


def is_better_when_lower(measure: str) -> bool:
    """Whether a lower value is better: for losses and errors; for all other measures a higher value is better."""
    return measure.endswith(("loss", "error"))


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.6g}"
