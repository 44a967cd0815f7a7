"""Metrics of models on the test split, with intervals."""
