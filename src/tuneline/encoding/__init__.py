"""Records to tokens with their labels."""
