"""The commands of the command line, a file for each stage of the work: options in, one call, words out."""
