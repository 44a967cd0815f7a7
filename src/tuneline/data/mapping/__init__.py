"""Convert raw rows of any known shape to records."""
