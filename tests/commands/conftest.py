"""The fixtures of these tests."""

from registered import root, shell, tokenizer
from registry_fixtures import tracker

__all__ = ["root", "shell", "tokenizer", "tracker"]
