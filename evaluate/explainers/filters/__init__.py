"""Which filters of a network tell the classes apart, and what they look for (the mathematics of VEBI)."""
