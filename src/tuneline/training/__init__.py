"""The training loop. `training_run.train` is its entry point."""
