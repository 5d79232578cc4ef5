"""What several families of methods share: layers, segments of a picture, relevance through attention."""
