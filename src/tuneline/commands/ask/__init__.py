"""`tuneline generate` and `tuneline predict`: a registered version answers."""
