"""Whether an erasure was begun and is not finished: until then no command may bring the rows back."""

from tuneline.work import WORK

JOURNAL = WORK / "forget.json"
"""What an unfinished erasure has found; deleted at its end."""


def problem() -> str | None:
    """A line about an erasure that was begun and is not finished; None if there is none."""
    if not JOURNAL.is_file():
        return None
    return "an erasure was begun and is not finished; run the same `tuneline forget …` again, which continues it"
