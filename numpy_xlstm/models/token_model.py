"""What both xLSTM language models are: embedding, stack of blocks, linear head."""

import copy
from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, cast

import numpy as np

from numpy_xlstm.errors import ShapeError
from numpy_xlstm.layers import (
    Dropout,
    Embedding,
    EmbeddingCache,
    Linear,
    LinearCache,
)
from numpy_xlstm.layers.indices import IndexArray, check_indices
from numpy_xlstm.layers.soft_cap import apply_cap, apply_cap_backward
from numpy_xlstm.models.block import EVALUATION_BLOCK
from numpy_xlstm.models.stack import BlockStack, StackCache
from numpy_xlstm.models.state_dict import official_arrays
from numpy_xlstm.models.states import check_finite, check_state_like, own, zeros_like
from numpy_xlstm.numerics import Array, check_array, check_batch, check_generator, check_positive
from numpy_xlstm.parameters import Composite, Parameterised, named_grads
from numpy_xlstm.signatures import Signature, check_made_by, signature

Grads = dict[str, Array]


class TokenModelCache(NamedTuple):
    """What the backward of a language model needs: the caches of its parts."""

    embedding: EmbeddingCache
    dropped: Array | None
    stack: StackCache
    head: LinearCache
    capped: Array | None
    """What the backward of the soft cap needs."""
    after: tuple[Any, ...]
    """The final state, whose shape its cotangent must have."""
    made_by: Signature | None = None
    """The model; evaluation, which drops its caches, does not say."""


class TokenModel(Composite):
    """Predict the next token from all tokens so far.

    Parameters
    ----------
    embedding, stack, head
        The parts; the head is None if it shares the embedding's matrix.
    embedding_dropout : float
        Probability that an entry of a token's vector is dropped in training.
    cap : float, optional
        Soft cap of the logits.
    dropout : float
        The largest probability anywhere in the model that something is dropped in training.
    """

    names: ClassVar[tuple[str, str, str]]
    """What embedding, stack and head are called."""

    def __init__(
        self,
        embedding: Embedding,
        stack: BlockStack,
        head: Linear | None,
        *,
        embedding_dropout: float = 0.0,
        cap: float | None = None,
        dropout: float = 0.0,
    ) -> None:
        self.vocab_size, self.width = embedding.num_embeddings, embedding.embedding_dim
        self.embedding_dropout = Dropout(embedding_dropout)
        self.cap, self.dropout = cap, max(dropout, embedding_dropout)
        parts: tuple[Parameterised | None, ...] = embedding, stack, head
        named = zip(self.names, parts, strict=True)
        self.children = {name: part for name, part in named if part is not None}
        self._like = stack.empty_state(1)
        self._shared_head = Linear(1, 1, bias=False, dtype=embedding.dtype)
        self._shared_head.in_features, self._shared_head.out_features = self.width, self.vocab_size

    @property
    def embedding(self) -> Embedding:
        """The table of token vectors."""
        return cast(Embedding, self.children[self.names[0]])

    @property
    def stack(self) -> BlockStack:
        """The blocks."""
        return cast(BlockStack, self.children[self.names[1]])

    @property
    def tied(self) -> bool:
        """Whether the head uses the embedding's matrix."""
        return self.names[2] not in self.children

    @property
    def head(self) -> Linear:
        """The map from hidden states to logits, before the soft cap."""
        if not self.tied:
            return cast(Linear, self.children[self.names[2]])
        head = copy.copy(self._shared_head)
        head.params = self.embedding.params
        return head

    def init_state(self, batch_size: int) -> tuple[Any, ...]:
        """Return the empty state: one part for each block, zeros, and m = −inf."""
        return self.stack.empty_state(check_positive("batch_size", batch_size))

    def __call__(
        self, tokens: IndexArray, state: tuple[Any, ...] | None = None
    ) -> tuple[Array, tuple[Any, ...]]:
        """Evaluate: logits and final state. Apart from these, memory does not grow with T."""
        now, (B, T) = self._start(tokens, state), tokens.shape
        if T <= EVALUATION_BLOCK:
            logits, now, _ = self._apply(tokens, now, None, False)
            return logits, now if T else own(now)
        logits = np.empty((B, T, self.vocab_size), self.dtype)
        for start in range(0, T, EVALUATION_BLOCK):
            steps = slice(start, start + EVALUATION_BLOCK)
            logits[:, steps], now, _ = self._apply(tokens[:, steps], now, None, False)
        return logits, now

    def forward(
        self,
        tokens: IndexArray,
        state: tuple[Any, ...] | None = None,
        *,
        rng: np.random.Generator | None = None,
        recompute: bool = False,
    ) -> tuple[Array, tuple[Any, ...], TokenModelCache]:
        """Map tokens to logits and keep what the backward needs.

        The cache refers to the parameters: change them after the backward.

        Parameters
        ----------
        tokens : np.ndarray
            Integers from 0 to V − 1, shape (B, T), T ≥ 0.
        state : tuple, optional
            State before the first token; the empty state if omitted.
        rng : np.random.Generator, optional
            Source of dropout; without it, nothing is dropped.
        recompute : bool
            Keep only the input of each block, and run the block again in the backward: about a
            third more time for a fraction of the memory. The result is the same, bit for bit.

        Returns
        -------
        logits : np.ndarray
            Shape (B, T, V).
        state : tuple
            State after the last token, to be passed to the next call.
        cache : TokenModelCache
            What :meth:`backward` needs.

        Raises
        ------
        DTypeError, ShapeError, IndexError, NonFiniteError, OptionError
            If an argument is not as described.
        """
        check_generator("rng", rng)
        before = own(self._start(tokens, state))
        check_finite("state", before)
        logits, after, cache = self._apply(tokens.copy(), before, rng, recompute)
        return logits, own(after), cache._replace(made_by=signature(self))

    def backward(
        self, dlogits: Array, cache: TokenModelCache, dstate: tuple[Any, ...] | None = None
    ) -> tuple[None, tuple[Any, ...], Grads]:
        """Gradients of the initial state and of the parameters; tokens have none, hence ``None``.

        Parameters
        ----------
        dlogits : np.ndarray
            Cotangent of the logits, (B, T, V).
        cache : TokenModelCache
            From :meth:`forward`. It is not changed, and can be used again.
        dstate : tuple, optional
            Cotangent of the final state; zero if omitted.

        Raises
        ------
        ShapeError, DTypeError, NonFiniteError
            If a cotangent is not like what that forward returned, or not finite.
        CacheError
            If ``cache`` is not from a model of this kind with parameters of these shapes.
        """
        check_made_by(cache, self)
        check_array(
            "dlogits", dlogits, (*cache.embedding.tokens.shape, self.vocab_size), self.dtype
        )
        if dstate is None:
            dstate = cast(tuple[Any, ...], zeros_like(cache.after))
        else:
            check_state_like("dstate", dstate, self._like, len(dlogits), self.dtype)
            check_finite("dstate", dstate, cotangent=True)
        embedding, stack, head = self.names
        dh, head_grads = self.head.apply_backward(
            apply_cap_backward(dlogits, cache.capped), cache.head
        )
        dx, dstate0, stack_grads = self.stack.apply_backward(dh, cache.stack, dstate)
        dx = self.embedding_dropout.apply_backward(dx, cache.dropped)
        parts = {embedding: self.embedding.apply_backward(dx, cache.embedding), stack: stack_grads}
        if self.tied:
            parts[embedding]["weight"] += head_grads["weight"]
        else:
            parts[head] = head_grads
        return None, dstate0, named_grads(parts)

    def state_dict(self) -> dict[str, Array]:
        """Copies of all parameters under the official names, the head's also where it is tied."""
        arrays = {name: array.copy() for name, array in self.params.items()}
        if self.tied:
            arrays[f"{self.names[2]}.weight"] = self.embedding.params["weight"].copy()
        return arrays

    def load_state_dict(self, arrays: Mapping[str, Any]) -> None:
        """Copy parameters from arrays under the official names, of any floating dtype.

        Parameters
        ----------
        arrays : Mapping[str, array_like]
            As from ``{k: v.numpy() for k, v in model.state_dict().items()}`` of the official
            model. The recurrent weights of its CUDA backend are put in order.

        Raises
        ------
        ShapeError, DTypeError, NonFiniteError
            If names or shapes differ, tied matrices are not equal, or a number is not finite.
            Nothing has been copied then.
        """
        params = self.params
        shared = (f"{self.names[2]}.weight", f"{self.names[0]}.weight") if self.tied else None
        for name, array in official_arrays(arrays, params, shared).items():
            params[name][...] = array

    def _apply(
        self,
        tokens: IndexArray,
        state: tuple[Any, ...],
        rng: np.random.Generator | None,
        recompute: bool,
    ) -> tuple[Array, tuple[Any, ...], TokenModelCache]:
        x, embedding = self.embedding.apply(tokens)
        x, dropped = self.embedding_dropout.apply(x, rng)
        h, after, stack = self.stack.apply(x, state, rng, recompute)
        logits, head = self.head.apply(h)
        logits, capped = apply_cap(logits, self.cap)
        return logits, after, TokenModelCache(embedding, dropped, stack, head, capped, after)

    def _start(self, tokens: Any, state: tuple[Any, ...] | None) -> tuple[Any, ...]:
        check_indices("tokens", tokens, self.vocab_size)
        if tokens.ndim != 2:
            raise ShapeError(f"tokens: expected shape (B, T); got {tokens.shape}")
        check_batch("tokens", tokens)
        if state is None:
            return self.stack.empty_state(len(tokens))
        check_state_like("state", state, self._like, len(tokens), self.dtype)
        return state
