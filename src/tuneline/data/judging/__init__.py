"""Whether rows are good enough: how many can be used, and Great Expectations on raw and on clean rows."""
