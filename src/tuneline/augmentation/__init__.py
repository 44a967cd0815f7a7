"""Variants of training rows: noise, synonyms and translations there and back."""
