"""Great Expectations on raw and on clean rows."""
