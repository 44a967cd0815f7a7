"""Raw rows to canonical records, whatever shape people write them in."""
