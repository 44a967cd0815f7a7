"""Compressed files and archives as byte streams."""
