"""Where vision transformers keep what methods read: a file for each family of networks."""
