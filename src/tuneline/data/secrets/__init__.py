"""Finds and masks secrets and personal data in texts."""
