"""Duplicates and near duplicates within a set."""
