"""The files in the folder of a version: their digests, and the names of the files that describe the others."""

from pathlib import Path

from tuneline.core import files

REPORT = "report.html"
"""The gate's report, as it was when the version was registered."""
MLMODEL = "MLmodel"
"""The file by which MLflow loads a version; it holds the digests of the files that were there before it."""
EXAMPLES = ("input_example.json", "serving_input_example.json")
"""Examples of an input, which MLflow shows and tries a model with."""
ADDED_BY_MLFLOW = ("registered_model_meta",)
"""Files that MLflow writes into the folder when it downloads or loads a version, into its own store too."""
DESCRIPTIONS = (MLMODEL, "croissant.json", "bom.cdx.json", "annex_iv.md", "claims.jsonl", "model.sig")
"""The files that describe the model and are written after it; nothing that loads the model reads them."""


def sha256_tree(folder: Path) -> dict[str, str]:
    """The sha256 of every registered file of a version: relative path -> sha256 in hex, sorted by path."""
    return {name: sha256 for name, sha256 in files.sha256_tree(folder).items() if name not in ADDED_BY_MLFLOW}


def sha256(folder: Path) -> str:
    """The digest of `sha256_tree`: the identity of a version's folder."""
    return files.digest(sha256_tree(folder))
