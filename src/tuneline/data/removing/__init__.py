"""Finding rows in the files of a raw set, and writing the files without them."""
