"""One module per type of task: its test rows, scores, metrics and baselines."""
