"""Check that a backward is the exact vector-Jacobian product of its forward.

Nothing here knows any layer. Whatever follows one of the two protocols can be checked, a class
with parameters or a pair of functions, ours or yours: see :func:`gradcheck`.
"""

from numpy_xlstm.gradcheck.check import gradcheck
from numpy_xlstm.gradcheck.report import Report, Row

__all__ = ["Report", "Row", "gradcheck"]
