"""Implementations by other authors in the kit, in addition to the peers."""
