"""Probes: what is measured on other rows than the test rows."""
