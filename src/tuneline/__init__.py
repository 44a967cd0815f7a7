"""tuneline: keep a language model fine-tuned on your own text, and know exactly what is in production."""

__version__ = "0.1.0"
