"""The audit: a plan, its cells, and what they come to."""
