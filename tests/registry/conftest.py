"""The fixtures of these tests."""

from registry_fixtures import lineage, project, tracker

__all__ = ["lineage", "project", "tracker"]
