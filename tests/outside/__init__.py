"""Implementations by other authors in the kit, outside of the peers: ``python -m tests.outside``."""
