"""What the finished cells of an audit amount to, as one document."""
