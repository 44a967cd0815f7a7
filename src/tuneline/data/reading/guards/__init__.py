"""Checks of untrusted files: encodings, other formats, declared memory; and damage to text."""
