"""The protocol of an optimiser, which training, checkpoints and runs use."""

from collections.abc import Mapping
from typing import Any, Protocol

from numpy_xlstm.errors import DivergenceError
from numpy_xlstm.numerics import Array


class Optimizer(Protocol):
    """An optimiser, made by ``kind(params, **options)``.

    Attributes
    ----------
    params : Mapping[str, np.ndarray]
        The parameters that are updated, not copied.
    lr : float
        Learning rate, which a step can override.
    t : int
        Number of steps taken.
    largest_update : float or None
        Largest change of an entry in the last step, if it is known; for error messages.
    """

    params: Mapping[str, Array]
    lr: float
    t: int
    largest_update: float | None

    @property
    def options(self) -> dict[str, Any]:
        """Options of the constructor as JSON values, which a resumed training uses again."""
        ...

    def step(
        self,
        grads: Mapping[str, Array],
        *,
        lr: float | None = None,
        scale: float = 1.0,
    ) -> None:
        """Update ``params`` in place for ``scale`` times the gradients, all of them or none."""
        ...

    def state_dict(self) -> dict[str, Array]:
        """Return the arrays that the next step depends on."""
        ...

    def load_state_dict(self, arrays: Mapping[str, Array]) -> None:
        """Copy the arrays of another optimiser, or raise an error and change nothing."""
        ...


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
