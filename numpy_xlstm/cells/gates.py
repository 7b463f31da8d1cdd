"""The four gates of LSTM and sLSTM: their order, and where each one's weights are.

Rows are gate-major, in the order i, f, z, o: the order of ``torch.nn.LSTM``, which calls z "g".
W (4H, D) and b (4H,) stack the gates; R holds one (4·DH, DH) matrix per head, gate-major inside.
"""

from collections.abc import Mapping
from typing import Any, Protocol, Self, overload

from numpy_xlstm.numerics import Array

GATES = ("i", "f", "z", "o")


class _HasParams(Protocol):
    @property
    def params(self) -> Mapping[str, Array]: ...


class GateView:
    """Attribute that shows one gate's part of a stacked parameter, as a live view.

    Reading gives the view; assigning writes through it into the stacked array.
    """

    def __init__(self, parameter: str, gate: str) -> None:
        self.parameter = parameter
        self.index = GATES.index(gate)
        self.__doc__ = f"The rows of ``{parameter}`` that belong to gate {gate}: a live view."

    @overload
    def __get__(self, layer: None, owner: type | None = None) -> Self: ...
    @overload
    def __get__(self, layer: _HasParams, owner: type | None = None) -> Array: ...
    def __get__(self, layer: _HasParams | None, owner: type | None = None) -> Any:
        if layer is None:
            return self
        stacked = layer.params[self.parameter]
        if self.parameter == "b":  # (4H,) -> (4, H)
            return stacked.reshape(4, -1)[self.index]
        *heads, rows, columns = stacked.shape  # (..., 4H, D) -> (..., 4, H, D)
        return stacked.reshape(*heads, 4, rows // 4, columns)[..., self.index, :, :]

    def __set__(self, layer: _HasParams, value: Array) -> None:
        self.__get__(layer)[...] = value
