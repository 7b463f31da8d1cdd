"""The smallest language model: embedding, one recurrent layer, linear head."""

from typing import Any, NamedTuple, cast

import numpy as np

from numpy_xlstm.errors import OptionError, ShapeError
from numpy_xlstm.layers import Embedding, EmbeddingCache, Linear, LinearCache
from numpy_xlstm.layers.indices import IndexArray, check_indices
from numpy_xlstm.models.protocols import RecurrentCell
from numpy_xlstm.numerics import Array, check_positive, generator_or_new
from numpy_xlstm.parameters import Composite, Parameterised, prefixed
from numpy_xlstm.signatures import Signature, Signed, check_made_by, signature


class LanguageModelCache(NamedTuple):
    """What the backward of :class:`LanguageModel` needs: the caches of its parts."""

    made_by: Signature
    embedding: Signed[EmbeddingCache]
    cell: Any
    head: Signed[LinearCache]


class LanguageModel(Composite):
    r"""Predict the next token from all tokens so far.

    .. math:: (h, s_T) = \mathrm{cell}(E_{k}, s_0), \qquad x = h W^\top + b

    Parameters
    ----------
    vocab_size : int
        Number V of tokens.
    embedding_size : int
        Width D of a token's vector E, the input width of the cell.
    cell : RecurrentCell
        A sequence layer such as ``LSTM(D, H)``, ``sLSTM(D, H)`` or ``mLSTM(D, H)``. The model
        trains this very object and has its dtype.
    rng : np.random.Generator, optional
        Draws the embedding and the head; a fresh, unseeded one if omitted.

    Attributes
    ----------
    params : dict[str, np.ndarray]
        ``embedding.weight``, ``cell.…`` with the cell's own names, ``head.weight``, ``head.bias``.

    Raises
    ------
    ShapeError
        If the cell is not ``embedding_size`` wide at its input.
    OptionError
        If the cell is no sequence layer, or time-major.

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm.cells import LSTM
    >>> rng = np.random.default_rng(0)
    >>> model = LanguageModel(10, 4, LSTM(4, 8, rng=rng), rng=rng)
    >>> logits, state, cache = model.forward(np.array([[1, 2, 3]]))
    >>> logits.shape
    (1, 3, 10)
    >>> _, dstate0, grads = model.backward(np.ones_like(logits), cache)
    >>> sorted(grads)
    ['cell.R', 'cell.W', 'cell.b', 'embedding.weight', 'head.bias', 'head.weight']
    """

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int,
        cell: RecurrentCell,
        *,
        rng: np.random.Generator | None = None,
    ) -> None:
        self.vocab_size = check_positive("vocab_size", vocab_size)
        self.embedding_size = check_positive("embedding_size", embedding_size)
        _check_cell(cell)
        if cell.input_size != self.embedding_size:
            raise ShapeError(
                f"cell: expected input_size {self.embedding_size}, the width of the embedding; "
                f"got {cell.input_size}"
            )
        if not getattr(cell, "batch_first", True):
            raise OptionError("cell: expected batch_first=True, tokens are (B, T); got False")
        rng = generator_or_new(rng)
        self.children = {
            "embedding": Embedding(vocab_size, embedding_size, dtype=cell.dtype, rng=rng),
            "cell": cast(Parameterised, cell),
            "head": Linear(cell.hidden_size, vocab_size, dtype=cell.dtype, rng=rng),
        }

    @property
    def embedding(self) -> Embedding:
        """The table of token vectors."""
        return cast(Embedding, self.children["embedding"])

    @property
    def cell(self) -> RecurrentCell:
        """The recurrent layer."""
        return cast(RecurrentCell, self.children["cell"])

    @property
    def head(self) -> Linear:
        """The map from hidden states to logits."""
        return cast(Linear, self.children["head"])

    def __call__(self, tokens: IndexArray, state: Any = None) -> tuple[Array, Any]:
        """Evaluate: logits (B, T, V) and the final state of the cell, without a cache."""
        self._check(tokens)
        h, state = self.cell(self.embedding(tokens), state)
        return self.head(h), state

    def forward(
        self, tokens: IndexArray, state: Any = None
    ) -> tuple[Array, Any, LanguageModelCache]:
        """Map tokens (B, T) to logits (B, T, V), from the cell's state or from an empty one.

        Raises
        ------
        DTypeError, ShapeError, IndexError
            If ``tokens`` is not a (B, T) array of integers from 0 to V − 1.
        """
        self._check(tokens)
        x, embedding_cache = self.embedding.forward(tokens)
        h, state, cell_cache = self.cell.forward(x, state)
        logits, head_cache = self.head.forward(h)
        caches = embedding_cache, cell_cache, head_cache
        return logits, state, LanguageModelCache(signature(self), *caches)

    def backward(
        self, dlogits: Array, cache: LanguageModelCache, dstate: Any = None
    ) -> tuple[None, Any, dict[str, Array]]:
        """Gradients of the initial state and of the parameters; tokens have none, hence ``None``.

        ``dlogits`` is (B, T, V); ``dstate`` is the cotangent of the final state, zero if omitted.

        Raises
        ------
        ShapeError, DTypeError, NonFiniteError
            If a cotangent is not like what that forward returned, or not finite.
        CacheError
            If ``cache`` is not from a model with such a cell and parameters of these shapes.
        """
        check_made_by(cache, self)
        _, embedding_cache, cell_cache, head_cache = cache
        dh, head = self.head.backward(dlogits, head_cache)
        dx, dstate0, cell = self.cell.backward(dh, cell_cache, dstate)
        _, embedding = self.embedding.backward(cast(Array, dx), embedding_cache)
        grads = prefixed("embedding", embedding) | prefixed("cell", cell) | prefixed("head", head)
        return None, dstate0, grads

    def _check(self, tokens: IndexArray) -> None:
        check_indices("tokens", tokens, self.vocab_size)
        if tokens.ndim != 2:
            raise ShapeError(f"tokens: expected shape (B, T); got {tokens.shape}")


def _check_cell(cell: Any) -> None:
    """Raise :class:`OptionError` unless the cell has all of :class:`RecurrentCell`."""
    expected = "cell: expected a sequence layer, such as LSTM(D, H); got"
    if isinstance(cell, type):
        raise OptionError(f"{expected} the class {cell.__name__}")
    widths = ("input_size", "hidden_size", "params", "dtype")
    missing = [n for n in ("__call__", "forward", "backward", *widths) if not hasattr(cell, n)]
    if missing:
        raise OptionError(f"{expected} {type(cell).__name__}, which has no {missing[0]}")
