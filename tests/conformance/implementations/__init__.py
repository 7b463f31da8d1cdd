"""What others wrote, as ports of the conformance kit: ``python -m tests.conformance.implementations``."""
