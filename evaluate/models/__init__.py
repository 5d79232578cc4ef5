"""Classifiers: architectures, training, files, what a user may name, and networks cut, copied and guarded."""
