"""The cache of a layer: residuals, and a description of the layer that made it."""

from typing import Any, NamedTuple, Self

import numpy as np

from numpy_xlstm.errors import CacheError
from numpy_xlstm.module import some
from numpy_xlstm.numerics import Array


class LayerCache(NamedTuple):
    """Residuals of a layer, and a description of the layer and of the outputs."""

    kept: Any  # residuals that ``compute`` returned
    lengths: Array | None  # of the rows; None if all rows are full, or if there is no time axis
    shape: tuple[int, ...]  # of y, in the layout of the caller
    dtype: np.dtype[Any]  # of y
    made_by: dict[str, Any]  # type, dtype, options and parameter shapes of the layer

    @classmethod
    def of(cls, layer: Any, y: Array, kept: Any, lengths: Array | None = None) -> Self:
        """Make the cache of a forward that returned y."""
        return cls(kept, lengths, y.shape, y.dtype, _made_by(layer))

    def check(self, layer: Any) -> None:
        """Raise :class:`CacheError` unless a layer of this configuration made the cache."""
        if (here := _made_by(layer)) != (there := self.made_by):
            wanted, got = (
                [f"{name} {a[name]}" for name in a if a[name] != b.get(name)]
                for a, b in ((here, there), (there, here))
            )
            raise CacheError(
                f"cache: expected one made by a {type(layer).__name__} with {some(wanted)}; "
                f"got one made by a layer with {some(got)}"
            )


def _made_by(layer: Any) -> dict[str, Any]:
    """Return the properties of the layer that its cache depends on."""
    options = {name: getattr(layer, name) for name in layer.cached_options}
    shapes: dict[str, Any] = {name: array.shape for name, array in layer.params.items()}
    return shapes | {"type": type(layer).__name__, "dtype": layer.dtype} | options
