"""Drops training rows that leak held-out rows."""
