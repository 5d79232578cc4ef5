"""What a model answers when the same scene is rendered with one thing changed."""
