"""Intervals, comparisons, ranks and variance of the scores of a run."""
