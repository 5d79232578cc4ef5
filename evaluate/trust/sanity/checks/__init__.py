"""The sanity checks, a module each; their keys and words stand in `results/checks.py`."""
