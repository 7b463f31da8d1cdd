"""Whole sequences, as fast as NumPy allows: pure pairs, arrays in and arrays out."""
