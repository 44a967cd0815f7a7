"""What depends on the registry as it is now, and so is never cached: the gate, and registering."""
