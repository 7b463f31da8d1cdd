"""Stacks of sequence layers, in one direction or in both."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from numpy_xlstm.errors import OptionError
from numpy_xlstm.layers.activations import checked_dropout, drop, drop_backward
from numpy_xlstm.layers.base import Recurrent, RunOptions, S, check_fit
from numpy_xlstm.module import Grads
from numpy_xlstm.numerics import Array, checked_bool, checked_positive, generator_or_new
from numpy_xlstm.numerics.memory import check_fits


class Stacked(Recurrent[S]):
    """A stack of layers. Each is a sequence layer, or a pair of a forward and a reverse one.

    A reverse layer reads each row from its last step to its first, within the length of the row.
    The outputs of both directions are concatenated and are the input of the next layer.

    Parameters
    ----------
    layers : list of lists
        From the first layer to the last, each ``[forward]`` or ``[forward, reverse]``: sequence
        layers such as :class:`~numpy_xlstm.sLSTM` or :class:`~numpy_xlstm.SequenceLayer`.
    dropout : float
        Probability that an entry between two layers is dropped if ``rng`` is given.
    batch_first : bool, default True
        Whether x and y are (B, T, ·) rather than (T, B, ·).

    Attributes
    ----------
    params : Mapping[str, np.ndarray]
        Parameters of all layers, in the same shapes, under their names with PyTorch's suffixes:
        ``W_l0``, ``W_l0_reverse``, ``W_l1``, …
    layers : list
        All layers and directions, in the order of the state.
    directions : list[int]
        Number of directions of each layer.

    Notes
    -----
    The state is a tuple of the states of all layers and directions: layer 0, layer 0 reverse, layer
    1, and so on. Here an LSTM, GRU or RNN has a tuple of its cells' states (B, ·), one for each of
    its own layers and directions.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm import mLSTM, sLSTM
    >>> rng = np.random.default_rng(0)
    >>> both = [sLSTM(3, 4, rng=rng), sLSTM(3, 4, rng=rng)]
    >>> stack = Stacked([both, [mLSTM(8, 6, num_heads=2, rng=rng)]])
    >>> y, state, cache = stack.forward(rng.standard_normal((2, 5, 3)), lengths=np.array([5, 2]))
    >>> y.shape, [type(part).__name__ for part in state]
    ((2, 5, 6), ['sLSTMState', 'sLSTMState', 'mLSTMState'])
    >>> dx, dstate0, grads = stack.backward(rng.standard_normal(y.shape), cache)
    >>> grads["W_l0_reverse"].shape
    (16, 3)
    """

    def __init__(
        self,
        layers: Sequence[Sequence[Recurrent]],
        *,
        dropout: float = 0.0,
        batch_first: bool = True,
    ) -> None:
        levels = _checked_layers(layers)
        self.layers = [layer for level in levels for layer in level]
        self.directions = [len(level) for level in levels]
        pairs = [(f"_l{n}", f"_l{n}_reverse")[:count] for n, count in enumerate(self.directions)]
        self.submodules = {"layers": [f"*{suffix}" for pair in pairs for suffix in pair]}
        self.in_features, self.out_features = levels[0][0].in_features, _width(levels[-1])
        self.dropout_between = checked_dropout(dropout)
        if dropout and len(levels) == 1:
            expected = "dropout: expected two layers or more, because it is applied between them"
            warnings.warn(f"{expected}; one layer drops nothing", stacklevel=2)
        self.batch_first = checked_bool("batch_first", batch_first)
        self.dropout = max([self.dropout_between, *(layer.dropout for layer in self.layers)])
        self.causal = max(self.directions) == 1 and all(layer.causal for layer in self.layers)

    @property
    def tensor_axes(self) -> Mapping[str, Any]:
        """Names that :func:`~numpy_xlstm.gradcheck` gives to the axes of the parameters."""
        return self.named_grads(layers=[getattr(layer, "tensor_axes", {}) for layer in self.layers])

    def init_state(self, batch_size: int) -> S:
        """Return the empty state, with one entry for each layer and direction."""
        states: Any = tuple(layer.inner_start(batch_size) for layer in self.layers)
        state: S = states
        return state

    def compute(self, x: Array, state: Any, options: RunOptions) -> tuple[Array, Any, Any]:
        """Compute the forward without checks.

        The cache has the residuals of each layer and direction, those of the dropout before each
        level, and the lengths.
        """
        after, caches, dropped = list[Any](), [], []
        lengths, factors = options.lengths, None
        for number, count in enumerate(self.directions):
            if number > 0:
                x, factors = drop(x, self.dropout_between, options.rng)
            dropped.append(factors)
            ys = []
            for reverse in (False, True)[:count]:
                n, given = len(after), reverse_steps(x, lengths) if reverse else x
                y, now, kept = self.layers[n].compute(given, state[n], options)
                ys.append(reverse_steps(y, lengths) if reverse else y)
                after.append(now)
                caches.append(kept)
            x = ys[0] if count == 1 else np.concatenate(ys, axis=-1)
        return x, tuple(after), (caches, dropped, lengths)

    def compute_backward(self, dy: Array, cache: Any, dstate: Any) -> tuple[Array, Any, Grads]:
        caches, dropped, lengths = cache
        n, before, grads = len(self.layers), list(dstate), [Grads() for _ in self.layers]
        for count, factors in reversed(list(zip(self.directions, dropped, strict=True))):
            dxs = []
            for reverse in (True, False)[-count:]:
                n -= 1
                layer, kept = self.layers[n], caches[n]
                own, dy = dy[..., -layer.out_features :], dy[..., : -layer.out_features]
                own = reverse_steps(own, lengths) if reverse else own
                dx, before[n], grads[n] = layer.compute_backward(own, kept, dstate[n])
                dxs.append(reverse_steps(dx, lengths) if reverse else dx)
            dy = drop_backward(sum(dxs[1:], dxs[0]), factors)
        return dy, tuple(before), self.named_grads(layers=grads)


def stack_layers(
    layer: Callable[..., Recurrent],
    input_size: int,
    hidden_size: int,
    num_layers: int = 1,
    *,
    bidirectional: bool = False,
    dropout: float = 0.0,
    batch_first: bool = True,
    **options: Any,
) -> Stacked:
    """Make a stack of layers of one kind.

    Parameters
    ----------
    layer : callable
        ``layer(width, hidden_size, **options)`` returns a sequence layer for inputs of that width.
    input_size, hidden_size : int
        Width of x, and width of the outputs of each layer and direction.
    num_layers : int
        Number of layers.
    bidirectional : bool
        Whether each layer also has a reverse direction.
    dropout, batch_first
        As in :class:`Stacked`.
    **options
        Options of ``layer``, such as ``num_heads``, ``dtype`` and ``rng``.

    Returns
    -------
    Stacked
        The stack, which maps x (B, T, D) to y (B, T, H · directions).

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm import GRUCell, SequenceLayer, sLSTM
    >>> rng = np.random.default_rng(0)
    >>> stack = stack_layers(sLSTM, 3, 8, 2, bidirectional=True, num_heads=2, rng=rng)
    >>> stack(np.ones((2, 5, 3)))[0].shape
    (2, 5, 16)

    A stack of a cell that has no layer of its own:

    >>> def gru(width, hidden_size, **options):
    ...     return SequenceLayer(GRUCell(width, hidden_size, **options))
    >>> sorted(stack_layers(gru, 3, 8, 2, rng=rng).params)
    ['R_l0', 'R_l1', 'W_l0', 'W_l1', 'b_h_l0', 'b_h_l1', 'b_l0', 'b_l1']
    """
    if not callable(layer):
        raise OptionError(
            "layer: expected a class or a function that makes a layer, such as sLSTM; "
            f"got {type(layer).__name__}"
        )
    if "rng" in options:
        options["rng"] = generator_or_new(options["rng"])

    def make(width: int) -> Recurrent:
        return layer(width, hidden_size, **options)

    layers = levels(make, input_size, num_layers, bidirectional, options.get("rng"))
    return Stacked(layers, dropout=dropout, batch_first=batch_first)


def levels(
    make: Callable[[int], Recurrent],
    input_size: int,
    num_layers: int,
    bidirectional: bool,
    rng: np.random.Generator | None,
) -> list[list[Recurrent]]:
    """Make the layers of a :class:`Stacked`, each for the width of x or of the layer below."""
    checked_bool("bidirectional", bidirectional)
    layers: list[list[Recurrent]] = []
    for n in range(checked_positive("num_layers", num_layers)):
        width = _width(layers[-1]) if layers else input_size
        layers.append([make(width) for _ in range(2 if bidirectional else 1)])
        if n == 1:  # all later layers have this size
            numbers = sum(layer.num_parameters for layer in layers[1])
            dtype = layers[1][0].dtype or np.float64
            check_fits([(numbers,)], dtype, rng, times=num_layers - 1)
    return layers


def reverse_steps(array: Array, lengths: Array | None = None) -> Array:
    """Reverse the steps of each row of (B, T, ·) within its length; padding stays in place."""
    if lengths is None:
        return array[:, ::-1]
    steps, ends = np.arange(array.shape[1]), lengths[:, None]
    order = np.where(steps < ends, ends - 1 - steps, steps)
    turned: Array = np.take_along_axis(array, order[..., None], axis=1)
    return turned


def _width(level: Sequence[Recurrent]) -> int:
    """Return the width of the concatenated outputs of a layer's directions."""
    return sum(layer.out_features for layer in level)


def _checked_layers(layers: Any) -> list[list[Recurrent]]:
    """Return the layers if each fits the one below, else raise an error that names a layer."""
    levels = list(layers) if isinstance(layers, list | tuple) else []
    sizes = {len(level) if isinstance(level, list | tuple) else 0 for level in levels}
    if not levels or not sizes <= {1, 2}:
        expected = "a list of layers, each [forward] or [forward, reverse]"
        raise OptionError(f"layers: expected {expected}; got {layers!r}")
    for n, level in enumerate(levels):
        for layer in level:
            if not isinstance(layer, Recurrent):
                expected = "a layer over sequences, such as SequenceLayer(cell)"
                raise OptionError(f"layers[{n}]: expected {expected}; got {type(layer).__name__}")
            if not layer.batch_first:
                expected = "batch_first=True, because batch_first of the stack determines the axes"
                raise OptionError(f"layers[{n}]: expected {expected}; got False")
            width = _width(levels[n - 1]) if n else levels[0][0].in_features
            check_fit(f"layers[{n}]", layer, width, layer.out_features, levels[0][0].dtype)
    return levels
