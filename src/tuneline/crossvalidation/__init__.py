"""Cross-validation: one training per fold, each measured on the rows that it has not seen."""
