"""Conversations to tokens, by a chat template."""
