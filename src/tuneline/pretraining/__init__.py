"""The built-in base model."""
