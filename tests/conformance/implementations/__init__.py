"""Other implementations as ports of the kit: ``python -m tests.conformance.implementations``."""
