"""The fixtures of these tests."""

from registered import root, shell, tokenizer

__all__ = ["root", "shell", "tokenizer"]
