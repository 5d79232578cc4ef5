"""Whether a method notices that a model has been randomised."""
