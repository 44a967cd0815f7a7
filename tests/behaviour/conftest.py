"""The fixtures of these tests."""

from chat_candidate import folders, project

__all__ = ["folders", "project"]
