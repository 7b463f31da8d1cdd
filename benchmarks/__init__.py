"""Times of numpy_xlstm and its peers, measured in turns: ``python -m benchmarks``."""
