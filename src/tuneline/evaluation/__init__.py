"""How good a model is, how sure that is, whether it is good enough, and the page that says so."""
