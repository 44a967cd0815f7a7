"""Parse the conversations of public data sets."""
