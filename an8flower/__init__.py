"""an8flower: rendered flowers with exact truth, to find out which visual explanations can be trusted."""

__version__ = "0.1.0"
