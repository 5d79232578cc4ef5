"""A plan carried out on engines, and its summary."""
