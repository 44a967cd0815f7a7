"""Documents about a version that other tools read; from values alone, without MLflow and without DVC."""
