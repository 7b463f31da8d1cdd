"""Equinox: cells without a batch, with the rows and gates of PyTorch."""

from tests.outside.shared import Case, Tensor, one_bias, outside, scanned


def cell_of(name: str, case: Case, W: Tensor, R: Tensor, *b: Tensor) -> Tensor:
    import equinox
    import jax

    arrays = [W, R, *one_bias(*b)]
    names = ["weight_ih", "weight_hh", "bias", "bias_n"][: len(arrays)]
    cell = getattr(equinox.nn, name[3:])(**case.options, key=jax.random.key(0))
    cell = equinox.tree_at(lambda cell: [getattr(cell, n) for n in names], cell, arrays)

    def step(state: Tensor, x: Tensor) -> Tensor:
        state = jax.vmap(cell)(x, state)
        return state, state[0] if name == "nn.LSTMCell" else state

    return step


FUNCTIONS = "nn.LSTMCell lstm, nn.GRUCell gru"
IMPLEMENTATIONS = outside("equinox>=0.13,<0.14", scanned(cell_of), FUNCTIONS, "lengths")
