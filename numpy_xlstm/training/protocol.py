"""The protocol of an optimiser, which training, checkpoints and runs use."""

from collections.abc import Mapping
from typing import Any, Protocol

from numpy_xlstm.errors import DivergenceError
from numpy_xlstm.numerics import Array


class Optimizer(Protocol):
    """An optimiser, made by ``kind(params, **options)``. :class:`AdamW` documents its members.

    ``options`` are the options of the constructor as JSON values, which a resumed training uses
    again.
    """

    params: Mapping[str, Array]
    lr: float
    t: int

    @property
    def options(self) -> dict[str, Any]: ...  # noqa: D102

    def step(  # noqa: D102
        self, grads: Mapping[str, Array], *, lr: float | None = None, scale: float = 1.0
    ) -> None: ...

    def state_dict(self) -> dict[str, Array]: ...  # noqa: D102

    def load_state_dict(self, arrays: Mapping[str, Array]) -> None: ...  # noqa: D102


def diverged(optimizer: Optimizer, reason: object, lr: float | None) -> DivergenceError:
    """Return the error for a step that diverges."""
    rate = optimizer.lr if lr is None else lr
    return DivergenceError(
        f"training diverged at step {optimizer.t + 1} ({reason}; learning rate {rate:g}); "
        "lower the learning rate"
    )
