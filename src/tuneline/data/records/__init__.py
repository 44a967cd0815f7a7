"""Records: their form, fields, texts, labels and scripts."""
