"""DVC: what is stale, rebuilding it stage by stage, and whether the bytes are still there."""
