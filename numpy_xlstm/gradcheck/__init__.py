"""Check that a backward is the exact vector-Jacobian product of its forward.

The check depends on no layer of this package. It accepts any object with parameters, and any pair
of functions, that follows one of two protocols; see :func:`gradcheck`. :func:`from_torch` and
:func:`from_jax` convert code that PyTorch or JAX differentiates to such an object.
"""

from numpy_xlstm.gradcheck.check import gradcheck
from numpy_xlstm.gradcheck.frameworks import from_jax, from_torch
from numpy_xlstm.gradcheck.report import Report, Row

__all__ = ["Report", "Row", "from_jax", "from_torch", "gradcheck"]
