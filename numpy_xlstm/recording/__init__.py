"""What a function of arrays asks NumPy to do, recorded once and repeated without Python between."""

from numpy_xlstm.recording.array import RecordedArray
from numpy_xlstm.recording.exchange import exchanged
from numpy_xlstm.recording.program import Program
from numpy_xlstm.recording.record import record

__all__ = ["Program", "RecordedArray", "exchanged", "record"]
