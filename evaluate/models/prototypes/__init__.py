"""Networks that reason by parts: what a class scores is a weighted sum of how strongly prototypes are found."""
