"""The scores, a file per family, with their cards."""
