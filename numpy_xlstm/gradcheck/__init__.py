"""Check that a backward is the exact vector-Jacobian product of its forward.

Nothing here knows any layer. Whatever follows one of the two protocols can be checked, a class
with parameters or a pair of functions, ours or yours: see :func:`gradcheck`. What PyTorch or JAX
differentiates follows it with :func:`from_torch` and :func:`from_jax`.
"""

from numpy_xlstm.gradcheck.check import gradcheck
from numpy_xlstm.gradcheck.jax_layer import from_jax
from numpy_xlstm.gradcheck.report import Report, Row
from numpy_xlstm.gradcheck.torch_layer import from_torch

__all__ = ["Report", "Row", "from_jax", "from_torch", "gradcheck"]
