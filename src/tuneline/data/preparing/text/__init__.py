"""Cleaned texts, their tokens, grams and keys, for many texts at once."""
