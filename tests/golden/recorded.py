"""LSTM of one layer in its recorded form, with names W, R and b and states (B, H)."""

from typing import Any

import numpy as np

from numpy_xlstm import LSTM, LanguageModel
from numpy_xlstm.module import Grads, Module
from numpy_xlstm.numerics import Array
from numpy_xlstm.trees import tree_map


class RecordedLSTM(Module):
    """An LSTM, or a language model of one, with bias_ih as the recorded b and bias_hh = 0."""

    def __init__(self, layer: LSTM | LanguageModel) -> None:
        self.layer, self.is_model = layer, isinstance(layer, LanguageModel)
        cell = "cell." if self.is_model else ""
        names = {"weight_ih_l0": "W", "weight_hh_l0": "R", "bias_ih_l0": "b"}
        self.names = {name: name for name in layer.params if not name.startswith(cell)}
        self.names |= {cell + name: cell + then for name, then in names.items()}
        self.params = {then: layer.params[name] for name, then in self.names.items()}

    def forward(self, x: Any, state: Any = None, **options: Any) -> tuple[Array, Any, Any]:
        """Run with the current names of the parameters."""
        params = {name: np.zeros_like(array) for name, array in self.layer.params.items()}
        params |= {name: self.params[then] for name, then in self.names.items()}
        layer = self.layer.with_params(params)
        y, after, cache = layer.forward(x, self._now(state), **options)
        return y, self._then(after), (layer, cache)

    def backward(self, dy: Array, cache: Any, dstate: Any) -> tuple[Any, Any, Grads]:
        """Compute gradients, without that of bias_hh, which equals that of bias_ih."""
        layer, kept = cache
        dx, dstate0, grads = layer.backward(dy, kept, self._now(dstate))
        return dx, self._then(dstate0), {then: grads[name] for name, then in self.names.items()}

    def _now(self, state: Any) -> Any:
        if state is None:
            return None
        return (state,) if self.is_model else tree_map(lambda a: a[None], state)

    def _then(self, state: Any) -> Any:
        return state[0] if self.is_model else tree_map(lambda a: a[0], state)
