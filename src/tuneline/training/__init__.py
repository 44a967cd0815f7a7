"""From clean records to a model: tokens, packed rows, the trainer, its checkpoints, and the base it starts from."""
