"""Its presence puts this folder on the path, so that the tests below it find what they share."""
