"""The conformance kit: any port, in any language, learns in one command what is wrong with it."""

from numpy_xlstm.conformance.case import Case, cases
from numpy_xlstm.conformance.catalogue import SUBJECTS
from numpy_xlstm.conformance.compare import Row, compare
from numpy_xlstm.conformance.flags import FLAGS
from numpy_xlstm.conformance.subjects import Subject

__all__ = ["FLAGS", "SUBJECTS", "Case", "Row", "Subject", "cases", "compare"]
