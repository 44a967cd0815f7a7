"""One training: configuration, loop, objectives, checkpoints, several processes."""
