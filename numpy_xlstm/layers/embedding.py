"""Table lookup and its transpose, a scatter-add, and checks of arrays of ids.

Derived in ``docs/derivations/layers.md``.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from numpy_xlstm.layers.base import Layer
from numpy_xlstm.module import Grads
from numpy_xlstm.numerics import Array, Shape, check_form, checked_positive
from numpy_xlstm.numerics.initial import drawn_normally

IndexArray = npt.NDArray[np.integer[Any]]
"""An array of integers, each of which is the index of a row or class."""


class Embedding(Layer):
    r"""One learned vector per token: a layer whose input is integers, which have no gradient.

    .. math:: y_n = W_{k_n}

    ``forward`` maps tokens (...), from 0 to V − 1, to vectors (..., D). An :class:`IndexError`
    names the first token outside this range. The first result of ``backward`` is None.

    Parameters
    ----------
    num_embeddings : int
        Number V of tokens.
    embedding_dim : int
        Width D of each vector.
    deviation : float
        Standard deviation of the initial W; 1 as in ``torch.nn.Embedding``.
    dtype, rng
        As in :class:`~numpy_xlstm.LSTM`.

    Attributes
    ----------
    params : dict[str, np.ndarray]
        ``weight`` is W, shape (V, D), initially normal.

    Examples
    --------
    >>> import numpy as np
    >>> layer = Embedding(5, 2, rng=np.random.default_rng(0))
    >>> y, cache = layer.forward(np.array([[1, 4, 1]]))
    >>> y.shape
    (1, 3, 2)
    >>> _, grads = layer.backward(np.ones_like(y), cache)
    >>> grads["weight"][:, 0]
    array([0., 2., 0., 0., 1.])
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        deviation: float = 1.0,
        dtype: npt.DTypeLike = np.float64,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        self.num_embeddings = checked_positive("num_embeddings", num_embeddings)
        self.embedding_dim = checked_positive("embedding_dim", embedding_dim)
        self.out_features = self.embedding_dim
        shapes = {"weight": (self.num_embeddings, self.embedding_dim)}
        self.params = drawn_normally(shapes, deviation, dtype, rng)

    def check_input(self, tokens: IndexArray) -> None:
        check_indices("tokens", tokens, self.num_embeddings)

    def compute(self, tokens: IndexArray) -> tuple[Array, IndexArray]:
        y = self.params["weight"][tokens]  # [embedding.1]
        return y.astype(self.dtype, copy=False), tokens

    def compute_backward(  # type: ignore[override]
        self, dy: Array, tokens: IndexArray
    ) -> tuple[None, Grads]:
        """Compute the backward without checks: add each vector to the row of its token.

        Indices are flat, because ``np.add.at`` is several times slower on rows.
        """
        V, D = self.params["weight"].shape
        dW = np.zeros(V * D, self.dtype)
        flat = tokens.reshape(-1, 1).astype(np.intp) * D + np.arange(D)
        np.add.at(dW, flat.reshape(-1), dy.reshape(-1))  # [embedding.2]
        return None, {"weight": dW.reshape(V, D)}


def check_indices(
    name: str,
    value: Any,
    size: int,
    *,
    shape: Shape = (...,),
    except_for: int | None = None,
) -> None:
    """Raise an error unless ids are from 0 to ``size − 1``, or ``except_for``."""
    check_form(name, value, shape, "integers")
    outside = (value < 0) | (value >= size)
    if except_for is not None:
        outside &= value != except_for
    if outside.any():
        where = tuple(int(i) for i in np.argwhere(outside)[0])
        raise IndexError(
            f"{name}: expected ids from 0 to {size - 1}; got {value[where]} at index {where}"
        )
