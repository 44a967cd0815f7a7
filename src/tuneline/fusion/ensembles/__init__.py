"""Ensembles of registered versions: averaged probabilities, and weights that are fitted on validation rows."""
