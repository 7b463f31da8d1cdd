"""Known mistakes of ports, each a short change of the specification."""

from numpy_xlstm.conformance.bugs.bug import Bug, planted, results
from numpy_xlstm.conformance.bugs.texts import TITLES, read

FILES = {name: read(name) for name in TITLES}
"""Known mistakes in each file."""

BUGS = [bug for bugs in FILES.values() for bug in bugs]
"""All known mistakes."""

__all__ = ["BUGS", "Bug", "planted", "results"]
