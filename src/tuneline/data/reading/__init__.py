"""Raw files to raw rows, each with its line and offset; `readers` is the entry point."""
