"""Prepares raw sets: cleaning, secrets, duplicates, splits, decontamination."""
