"""Several versions used as one."""
