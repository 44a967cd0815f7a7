"""The HTML report of a candidate."""
