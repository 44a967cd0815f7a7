"""Canonical records: their types, fields, texts, labels and splits."""
