"""What is asked before a score is read: the certificate of a model, the sanity of a method."""
