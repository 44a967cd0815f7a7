"""Checks of what a model answers: data/checks.yaml, asking the model, and judging its answers."""
