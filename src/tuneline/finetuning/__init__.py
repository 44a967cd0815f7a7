"""A base and clean splits to a fine-tuned model, by task."""
