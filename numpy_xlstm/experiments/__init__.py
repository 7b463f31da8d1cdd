"""Experiments of the xLSTM paper, small enough for a laptop."""
