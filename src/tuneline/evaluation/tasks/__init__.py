"""What each task asks a model, and how its answers are measured."""
