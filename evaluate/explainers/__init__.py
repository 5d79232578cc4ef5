"""The explanation methods, a file per family, and what families share."""
