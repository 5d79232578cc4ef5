"""Canvases of several pictures, and networks cut so that a logit can come from one of these pictures alone."""
