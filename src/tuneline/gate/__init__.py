"""The decision whether a candidate is good enough."""
