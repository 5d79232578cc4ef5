"""This folder is a package for tests to install, and holds none itself."""

collect_ignore_glob = ["*.py"]
