"""The fixtures of these tests."""

from training_fixtures import base, chatty, killed_at, tokenizer, workplace

__all__ = ["base", "chatty", "killed_at", "tokenizer", "workplace"]
