"""Explain rows and score them against truth and chance, cell by cell."""
