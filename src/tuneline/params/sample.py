"""Section `sample`: the built-in corpus."""

from tuneline.params.section import Section


class Sample(Section):
    libraries: list[str]
    """Distributions whose docstrings are read beside the standard library's, by their names on the index."""
