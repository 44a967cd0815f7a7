"""Many texts at once: cleaned, hashed, and cut into tokens and grams."""
