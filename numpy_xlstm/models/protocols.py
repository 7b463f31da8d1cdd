"""The recurrent protocol as types: what training and models need of what they are given."""

from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from numpy_xlstm.numerics import Array


class RecurrentModel(Protocol):
    """Anything with the recurrent protocol, whatever its state and its cache are."""

    @property
    def params(self) -> Mapping[str, Array]:
        """The live parameters by name."""

    @property
    def dtype(self) -> np.dtype[Any] | None:
        """The dtype of the parameters."""

    def __call__(self, x: Array, /, state: Any = None) -> tuple[Array, Any]:
        """Evaluate: the outputs and the final state, and no cache."""

    def forward(self, x: Array, /, state: Any = None) -> tuple[Array, Any, Any]:
        """Return the outputs, the final state and the cache for the backward."""

    def backward(
        self, dy: Array, /, cache: Any, dstate: Any = None
    ) -> tuple[Array | None, Any, dict[str, Array]]:
        """Return the gradients of the input, of the initial state and of the parameters."""
