"""Whether a candidate is good enough."""
