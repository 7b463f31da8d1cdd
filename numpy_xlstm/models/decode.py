"""A language model prepared for generation of one token at a time."""

from typing import Any

from numpy_xlstm.layers.activations import soft_cap
from numpy_xlstm.layers.embedding import IndexArray, check_indices
from numpy_xlstm.numerics import Array, check_batch, own_error_state
from numpy_xlstm.validation import checked_state


class PreparedModel:
    """A language model as its decode step, made of the decode steps of its parts.

    Small matrices are copied and large ones are not, so the parameters of the model must not change
    while it is in use.
    """

    def __init__(self, model: Any) -> None:
        self._embedding, self._cap = model.embedding, model.cap
        self._body, self._head = model.body.decode_step(), model.head.decode_step()
        self.init_state = model.init_state

    def step(self, tokens: IndexArray, state: Any) -> tuple[Array, Any]:
        """Map tokens (B,), from 0 to V − 1, and a state of B rows to logits (B, V) and a new state.

        They equal ``model(tokens[:, None], state)`` up to rounding. The given state is not changed.
        """
        check_indices("tokens", tokens, self._embedding.num_embeddings, shape=("B",))
        check_batch("tokens", tokens)
        return self.compute(tokens, checked_state(self, state, len(tokens)))

    @own_error_state
    def compute(self, tokens: IndexArray, state: Any) -> tuple[Array, Any]:
        """Do the same as :meth:`step` without checks."""
        h, state = self._body(self._embedding.compute(tokens)[0], state)
        logits = self._head(h)
        return soft_cap(logits, self._cap)[0], state
