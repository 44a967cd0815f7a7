"""Bytes on disk to raw rows, each with its place."""
