"""What the commands do that use a registered version."""
