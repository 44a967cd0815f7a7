"""Weights of several fine-tuned models become the weights of one."""
