"""The fixtures of these tests."""

from erasable_project import raw
from registry_fixtures import lineage, project, tracker
from source_project import origin

__all__ = ["lineage", "origin", "project", "raw", "tracker"]
