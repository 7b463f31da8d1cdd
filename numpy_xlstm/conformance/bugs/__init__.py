"""Known mistakes of ports, each a short change of the specification or a map at its interface."""

from numpy_xlstm.conformance.bugs.bug import Bug, planted, results
from numpy_xlstm.conformance.bugs.interface import interfaces
from numpy_xlstm.conformance.bugs.texts import FILES, read

SECTIONS = [section for name in FILES for section in read(name)]
"""All sections of the files."""

BUGS = [bug for section in SECTIONS for bug in section.bugs]
"""All known mistakes that change lines."""

__all__ = ["BUGS", "SECTIONS", "Bug", "interfaces", "planted", "results"]
