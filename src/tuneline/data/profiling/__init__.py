"""What the rows of a set are like: duplicates, labels, secrets, lengths and scripts, before anything is prepared."""
