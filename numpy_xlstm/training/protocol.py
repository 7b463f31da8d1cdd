"""The protocol of an optimiser, which training, checkpoints and runs use."""

from collections.abc import Mapping
from typing import Any, Protocol

from numpy_xlstm.errors import DivergenceError
from numpy_xlstm.numerics import Array


class Optimizer(Protocol):
    """An optimiser, made by ``kind(params, **options)``. :class:`AdamW` documents its members.

    ``options`` are the options of the constructor as JSON values, which a resumed training uses
    again. ``largest_update`` is None if it is not known.
    """

    params: Mapping[str, Array]
    lr: float
    t: int
    largest_update: float | None

    @property
    def options(self) -> dict[str, Any]: ...  # noqa: D102

    def step(  # noqa: D102
        self, grads: Mapping[str, Array], *, lr: float | None = None, scale: float = 1.0
    ) -> None: ...

    def state_dict(self) -> dict[str, Array]: ...  # noqa: D102

    def load_state_dict(self, arrays: Mapping[str, Array]) -> None: ...  # noqa: D102


def diverged(
    optimizer: Optimizer, reason: object, lr: float | None, largest: float | None = None
) -> DivergenceError:
    """Return the error for a step that diverges.

    The message has the size of its update, or else of the last one, if known.
    """
    rate = optimizer.lr if lr is None else lr
    size = optimizer.largest_update if largest is None else largest
    update = "" if size is None else f", largest update {size:.3g}"
    return DivergenceError(
        f"training diverged at step {optimizer.t + 1} ({reason}; learning rate {rate:g}{update}); "
        "lower the learning rate"
    )
