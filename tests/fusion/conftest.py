"""The fixtures of these tests."""

from training_fixtures import base, chatty, tokenizer, workplace

__all__ = ["base", "chatty", "tokenizer", "workplace"]
