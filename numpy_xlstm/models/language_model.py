"""The language model: embedding, recurrent body, linear head."""

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np

from numpy_xlstm.errors import OptionError, ShapeError
from numpy_xlstm.layers import Embedding, Linear, Recurrent
from numpy_xlstm.layers.activations import (
    check_cap,
    checked_dropout,
    drop,
    drop_backward,
    soft_cap,
    soft_cap_backward,
)
from numpy_xlstm.layers.base import RunOptions, S
from numpy_xlstm.layers.embedding import IndexArray, check_indices
from numpy_xlstm.models.decode import PreparedModel
from numpy_xlstm.models.state_dict import StateDict
from numpy_xlstm.module import Grads
from numpy_xlstm.numerics import (
    Array,
    check_batch,
    checked_batch_size,
    checked_bool,
    checked_positive,
    checked_whole,
    generator_or_new,
)
from numpy_xlstm.numerics.initial import ShapesOnly


class SpecialTokens(NamedTuple):
    """Ids of the special tokens of a checkpoint.

    Parameters
    ----------
    bos : int, optional
        Id that begins a text.
    eos : tuple of int
        Ids each of which ends a text.
    pad : int, optional
        Id of padding.
    insert_bos : bool
        Whether to insert ``bos`` before a text, even if its tokenizer does not.

    Examples
    --------
    >>> from numpy_xlstm import SpecialTokens
    >>> SpecialTokens.checked(bos=1, eos=2, pad=None)
    SpecialTokens(bos=1, eos=(2,), pad=None, insert_bos=False)
    """

    bos: int | None = None
    eos: tuple[int, ...] = ()
    pad: int | None = None
    insert_bos: bool = False

    @classmethod
    def checked(cls, bos: Any, eos: Any, pad: Any, insert_bos: Any = False) -> "SpecialTokens":
        """Check the ids and make the record. ``eos`` may be one id, a list of ids or None."""
        for token in (bos, pad):
            if token is not None:
                checked_whole("token_id", token)
        ends = eos if isinstance(eos, list | tuple) else [] if eos is None else [eos]
        ends = tuple(checked_whole("eos_token_id", token) for token in ends)
        return cls(bos, ends, pad, checked_bool("insert_bos", insert_bos))


class LanguageModel(StateDict, Recurrent[S]):
    r"""A model that predicts the next token from all tokens so far.

    .. math:: (h, s_T) = \mathrm{body}(E_{k}, s_0), \qquad x = \mathrm{cap}(h W^\top + b)

    ``forward`` maps tokens (B, T), integers from 0 to V − 1 with B ≥ 1 and T ≥ 0, to logits
    (B, T, V). Padding may be any tokens. The first result of ``backward`` is None, because tokens
    have no gradient. For a body of blocks, ``model.body.recompute = True`` saves memory: a backward
    then computes the residuals of each block again.

    Parameters
    ----------
    vocab_size : int
        Number V of tokens.
    embedding_size : int
        Width D of a token's vector E, the input width of the body.
    body
        A layer such as ``LSTM(D, H)``, ``sLSTM(D, H)`` or ``mLSTM(D, H)``, or a stack of blocks.
        The model uses this object, not a copy, and has its dtype. The state of the model is the
        state of the body, with the batch as the first axis of every array.
    tied : bool
        Whether the head's W is E.
    head_bias : bool
        Whether there is a bias b; a tied head has none.
    cap : float, optional
        Soft cap of the logits, a tanh(x / a).
    embedding_dropout : float
        Probability that an entry of a token's vector is dropped in training.
    deviation : float, optional
        Standard deviation of the initial embedding and head; as in PyTorch if omitted.
    rng : np.random.Generator or int, optional
        Generator for the initial embedding and head, or its seed; unseeded if omitted.

    Attributes
    ----------
    params : Mapping[str, np.ndarray]
        ``embedding.weight`` (V, D), ``cell.…`` with the body's names and shapes, ``head.weight``
        (V, H), ``head.bias`` (V,).

    Examples
    --------
    >>> import numpy as np
    >>> from numpy_xlstm import LSTM
    >>> rng = np.random.default_rng(0)
    >>> model = LanguageModel(10, 4, LSTM(4, 8, rng=rng), rng=rng)
    >>> logits, state, cache = model.forward(np.array([[1, 2, 3]]))
    >>> logits.shape
    (1, 3, 10)
    >>> _, dstate0, grads = model.backward(rng.standard_normal(logits.shape), cache)
    >>> sorted(grads)[2:]
    ['cell.weight_hh_l0', 'cell.weight_ih_l0', 'embedding.weight', 'head.bias', 'head.weight']
    """

    special_tokens: SpecialTokens = SpecialTokens()
    """Special tokens, if the checkpoint has any."""
    names: ClassVar[tuple[str, str, str]] = ("embedding", "cell", "head")
    """Names of embedding, body and head."""

    def __init__(
        self,
        vocab_size: int,
        embedding_size: int,
        body: Recurrent[S],
        *,
        tied: bool = False,
        head_bias: bool = True,
        cap: float | None = None,
        embedding_dropout: float = 0.0,
        deviation: float | None = None,
        rng: np.random.Generator | int | None = None,
    ) -> None:
        V, D = checked_positive("vocab_size", vocab_size), embedding_size
        self.vocab_size = self.out_features = V
        self.embedding_size = self.in_features = checked_positive("embedding_size", D)
        _check_body(body, D, checked_bool("tied", tied))
        check_cap("cap", cap)
        rng, dtype = generator_or_new(rng), body.dtype or np.float64
        self.body, self.tied, self.cap = body, tied, cap
        start = 1.0 if deviation is None else deviation
        self.embedding = self.make_embedding(V, D, deviation=start, dtype=dtype, rng=rng)
        self.embedding_dropout = checked_dropout(embedding_dropout)
        self.dropout = max(embedding_dropout, body.dropout)
        bias = checked_bool("head_bias", head_bias) and not tied
        options: dict[str, Any] = {"deviation": deviation, "dtype": dtype, "rng": rng}
        names = dict(zip(("embedding", "body", "head"), self.names, strict=True))
        if tied:
            del names["head"]
            shapes_only = Linear(D, V, False, rng=ShapesOnly())
            self.head = shapes_only.over(self.embedding.params)
        else:
            self.head = Linear(body.out_features, V, bias, **options)
        self.submodules = names

    def make_embedding(self, V: int, D: int, **options: Any) -> Any:
        """Make the map of the inputs, which is the first part of the model."""
        return Embedding(V, D, **options)

    def over(self, params: Mapping[str, Array]) -> Self:
        """Return the same model with other arrays; a tied head shares the embedding's."""
        model = super().over(params)
        if model.tied:
            model.head = model.head.over(model.embedding.params)
        return model

    def init_state(self, batch_size: int) -> S:
        state: S = self.body.inner_start(checked_batch_size(batch_size))
        return state

    def compute(
        self, tokens: IndexArray, state: Any, options: RunOptions
    ) -> tuple[Array, Any, Any]:
        x, embedding = self.embedding.compute(tokens)
        x, dropped = drop(x, self.embedding_dropout, options.rng)
        h, state, body = self.body.compute(x, state, options)
        logits, head = self.head.compute(h)
        logits, capped = soft_cap(logits, self.cap)
        return logits, state, (embedding, dropped, body, head, capped)

    def compute_backward(  # type: ignore[override]
        self, dy: Array, cache: Any, dstate: Any
    ) -> tuple[None, Any, Grads]:
        """Return None for the tokens, and the gradients of the first state and the parameters."""
        tokens, dropped, hidden, x_head, capped = cache
        dh, head = self.head.compute_backward(soft_cap_backward(dy, capped), x_head)
        dx, dstate0, body = self.body.compute_backward(dh, hidden, dstate)
        _, embedding = self.embedding.compute_backward(drop_backward(dx, dropped), tokens)
        grads = {"embedding": embedding, "body": body}
        if self.tied:
            grads["embedding"]["weight"] += head["weight"]
        else:
            grads["head"] = head
        return None, dstate0, self.named_grads(**grads)

    def prepared(self) -> PreparedModel:
        """Prepare the model for decode steps, as :func:`~numpy_xlstm.generate` does.

        >>> from numpy_xlstm import LSTM
        >>> model = LanguageModel(10, 4, LSTM(4, 8))
        >>> logits, state = model.prepared().step(np.array([4]), model.init_state(1))
        """
        return PreparedModel(self)

    @property
    def shared(self) -> tuple[str, str] | None:  # type: ignore[override]
        """Names of the matrices of head and embedding if they are tied."""
        return (f"{self.names[2]}.weight", f"{self.names[0]}.weight") if self.tied else None

    def check_input(self, tokens: Any) -> None:
        check_indices("tokens", tokens, self.vocab_size, shape=("B", "T"))
        check_batch("tokens", tokens)


def _check_body(body: Any, width: int, tied: bool) -> None:
    """Raise an error unless the body is a causal recurrent layer of this width."""
    if not isinstance(body, Recurrent):
        kind = f"the class {body.__name__}" if isinstance(body, type) else type(body).__name__
        expected = "a recurrent layer, such as LSTM(D, H)"
        raise OptionError(f"body: expected {expected}; got {kind}")
    if not body.causal:
        raise OptionError("body: expected a causal one; got one with a reverse direction")
    for name in ("in_features", "out_features") if tied else ("in_features",):
        if (size := getattr(body, name)) != width:
            expected = f"{name} {width}, the width of the embedding"
            raise ShapeError(f"body: expected {expected}; got {size}")
