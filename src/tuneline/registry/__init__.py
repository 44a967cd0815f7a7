"""What was measured and decided: runs, versions, aliases."""
