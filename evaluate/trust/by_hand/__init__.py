"""Networks whose weights are set by hand, so that what they read is known: the unit test of explainers."""
