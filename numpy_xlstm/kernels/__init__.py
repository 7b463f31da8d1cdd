"""Fast code over arrays: whole sequences, and products with block-diagonal matrices."""
