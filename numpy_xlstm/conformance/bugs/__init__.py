"""Known mistakes of ports, each a short change of the specification or a map at its interface."""

from numpy_xlstm.conformance.bugs.bug import Bug, planted, results
from numpy_xlstm.conformance.bugs.interface import interfaces
from numpy_xlstm.conformance.bugs.texts import TITLES, read

FILES = {name: read(name) for name in TITLES}
"""Sections of known mistakes in each file."""

SECTIONS = [section for sections in FILES.values() for section in sections]
"""All sections."""

BUGS = [bug for section in SECTIONS for bug in section.bugs]
"""All known mistakes that change lines."""

__all__ = ["BUGS", "SECTIONS", "Bug", "interfaces", "planted", "results"]
