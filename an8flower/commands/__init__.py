"""The commands of the command line, a file for each stage of the work; each reads options and calls the library."""
