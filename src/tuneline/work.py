"""The folder of what may be deleted at any time: checkpoints, token caches, locks, logs and logins."""

from pathlib import Path

WORK = Path("work")
"""Relative to the project's root."""
