"""The data rooms: from bytes on disk to clean, split and checked rows."""
