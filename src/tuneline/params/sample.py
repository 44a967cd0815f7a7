"""Section `sample`: the built-in corpus."""

from tuneline.params.section import Section


class Sample(Section):
    libraries: list[str]
    """Names of installed distributions whose docstrings are added to those of the standard library."""
