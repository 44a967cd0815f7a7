"""Records to clean splits: cleaned, screened, without duplicates, split, and nothing held out in training."""
