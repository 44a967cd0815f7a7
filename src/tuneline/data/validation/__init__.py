"""Validates raw and clean sets with Great Expectations."""
