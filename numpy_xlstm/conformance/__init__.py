"""The conformance kit: test vectors for ports in any language, and diagnoses of their errors."""

from numpy_xlstm.conformance.case import Case, cases
from numpy_xlstm.conformance.catalogue import SUBJECTS
from numpy_xlstm.conformance.compare import Row, compare
from numpy_xlstm.conformance.files import SMALL, read_vectors, write_vectors
from numpy_xlstm.conformance.flags import FLAGS
from numpy_xlstm.conformance.ports import from_forward, from_layer
from numpy_xlstm.conformance.subjects import Subject
from numpy_xlstm.conformance.trace import read_trace, trace
from numpy_xlstm.conformance.verify import PortError, Report, UnsupportedError, verify

__all__ = [
    "FLAGS",
    "SMALL",
    "SUBJECTS",
    "Case",
    "PortError",
    "Report",
    "Row",
    "Subject",
    "UnsupportedError",
    "cases",
    "compare",
    "from_forward",
    "from_layer",
    "read_trace",
    "read_vectors",
    "trace",
    "verify",
    "write_vectors",
]
