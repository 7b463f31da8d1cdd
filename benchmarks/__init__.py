"""Times of numpy_xlstm and of its peers, measured side by side: ``python -m benchmarks``."""
