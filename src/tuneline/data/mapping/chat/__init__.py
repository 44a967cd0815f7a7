"""Conversations in every spelling of public data sets."""
