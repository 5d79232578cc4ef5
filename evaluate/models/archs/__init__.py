"""The architectures that can be trained by name, a file per family."""
