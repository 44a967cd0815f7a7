"""Profile the rows of a set before it is prepared."""
