"""The rows of a store as torch sees them: images as tensors, batches, a choice of rows, scenes rendered again."""
