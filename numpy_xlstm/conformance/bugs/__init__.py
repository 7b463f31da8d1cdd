"""Known mistakes of ports, each a short change of the specification or a map at its interface."""

from numpy_xlstm.conformance.bugs.bug import Bug, planted, results
from numpy_xlstm.conformance.bugs.interface import interfaces
from numpy_xlstm.conformance.bugs.texts import FILES, read

BUGS = [bug for name in FILES for bug in read(name)]
"""All known mistakes that change lines."""

__all__ = ["BUGS", "Bug", "interfaces", "planted", "results"]
