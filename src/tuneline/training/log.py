"""The training log: a line per logged step, the same after a kill as without one."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tuneline.core import files

_COLUMNS = ("step", "tokens", "loss", "learning_rate", "grad_norm", "eval_loss")


@dataclass
class History:
    """What was measured up to a step; it travels in every checkpoint."""

    lines: list[dict[str, float]] = field(default_factory=list)
    """By `step`; a measure is absent where it was not taken."""
    tokens: int = 0
    """Seen in training so far, padding not counted."""
    supervised_tokens: int = 0
    """Learnt so far; where rows are learnt and not tokens, the rows."""
    sums: dict[str, float] = field(default_factory=dict)
    """Of `loss` and of what else is averaged, since the last logged step."""
    weight: float = 0.0
    """What the sums are divided by."""

    def saw(self, sums: dict[str, float], weight: float, *, learnt: int, tokens: int) -> None:
        """Count one batch: its loss and other measures, each summed over `weight`."""
        for name, value in sums.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.weight += weight
        self.supervised_tokens += learnt
        self.tokens += tokens

    def means(self) -> dict[str, float]:
        """The means since the last call."""
        means = {name: value / (self.weight or 1) for name, value in self.sums.items()}
        self.sums, self.weight = {}, 0.0
        return means

    def record(self, step: int, measures: dict[str, float]) -> dict[str, float]:
        """Add measures to the line of `step`.

        Returns:
            What was recorded, `tokens` included.
        """
        measures = {"tokens": self.tokens, **measures}
        if not self.lines or self.lines[-1]["step"] != step:
            self.lines.append({"step": step})
        self.lines[-1] |= measures
        return measures

    def best(self, measure: str) -> int | None:
        """The step at which `measure` was best, the first of equals; None where it was never taken."""
        taken = [line for line in self.lines if measure in line]
        if not taken:
            return None
        sign = 1 if is_better_when_lower(measure) else -1
        return int(min(taken, key=lambda line: sign * line[measure])["step"])

    def since_best(self, measure: str) -> int:
        """How often `measure` was taken since it was best."""
        best = self.best(measure)
        return sum(measure in line and line["step"] > best for line in self.lines) if best is not None else 0

    def write(self, path: Path) -> None:
        """Keep all of it in a file."""
        files.write_json(path, asdict(self))

    @classmethod
    def read(cls, path: Path) -> "History":
        """What `write` kept."""
        stored: dict[str, Any] = files.read_json(path)
        return cls(**stored)

    def csv(self) -> str:
        """The lines as a table, blank where a measure was not taken."""
        others = dict.fromkeys(name for line in self.lines for name in line if name not in _COLUMNS)
        columns = [*_COLUMNS, *others]
        rows = [",".join(columns)]
        rows += [",".join(_cell(line.get(column)) for column in columns) for line in self.lines]
        return "\n".join(rows) + "\n"


def is_better_when_lower(measure: str) -> bool:
    """Which way a measure improves: losses and errors fall, all else rises."""
    return measure.endswith(("loss", "error"))


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.6g}"
