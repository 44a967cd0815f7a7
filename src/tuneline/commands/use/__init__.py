"""`tuneline use`: a raw set is taken in, and params.yaml changed to suit it."""
