"""From bytes on disk to clean, split and checked rows."""
