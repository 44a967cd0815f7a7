"""Training rows that give away held-out rows."""
