"""`python -m tuneline` is `tuneline`."""

from tuneline.cli import main

main()
