"""Compressed files and archives, unpacked while reading."""
