"""The stages of dvc.yaml, one module each with a `main(params)`; `python -m tuneline.stages NAME` runs one."""
