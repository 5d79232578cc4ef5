"""Classifiers: architectures, training, files, models that users name, and networks cut, copied and guarded."""
