"""Computations of numpy_xlstm that are timed, and the matrix products in them.

Names are looked up at setup, because an older numpy_xlstm may not have all of them.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

import numpy_xlstm as nx
from benchmarks.timing import Work

Array = np.ndarray[Any, Any]
F32 = np.float32
VOCABULARY = 256


def draw(*shape: int) -> Array:
    """Return standard normal numbers, the same at each call."""
    return np.random.default_rng(0).standard_normal(shape, dtype=F32)


def make_layer(kind: str, H: int, *heads: int) -> Any:
    options = {"num_heads": heads[0]} if heads else {}
    return getattr(nx, kind)(H, H, **options, dtype=F32, rng=np.random.default_rng(0))


def forward_backward(forward: Callable[[], Any], backward: Callable[..., Any], dy: Array) -> Work:
    def work() -> Any:
        y, _, cache = forward()
        backward(dy, cache)
        return y[..., -1, :]

    return work


def layer(kind: str, B: int, T: int, H: int, *heads: int) -> Work:
    """Set up forward and backward of ``nx.LSTM``, ``GRU``, ``RNN`` or ``sLSTM`` with D = H."""
    x, cell = draw(B, T, H), make_layer(kind, H, *heads)
    return forward_backward(lambda: cell.forward(x), cell.backward, x)


def layer_forward(kind: str, B: int, T: int, H: int, *heads: int) -> Work:
    """Set up the same layer, called without a cache."""
    x, cell = draw(B, T, H), make_layer(kind, H, *heads)
    return lambda: cell(x)[0][:, -1]


def mlstm_inputs(B: int, NH: int, T: int, d: int) -> list[Array]:
    """Return q, k, v and the pre-activations of both gates; v also serves as the cotangent of h."""
    q, k, v = draw(3, B, NH, T, d)
    i, f = draw(2, B, NH, T)
    return [q, k, v, i, f + 3]


def chunkwise(*sizes: int) -> Work:
    inputs, backward = mlstm_inputs(*sizes), nx.mlstm_chunkwise_backward
    return forward_backward(lambda: nx.mlstm_chunkwise(*inputs), backward, inputs[2])


def slstm_steps(H: int, steps: int) -> Work:
    """Set up products and the decode-step kernel of a layer with one head, called once per step."""
    from numpy_xlstm.kernels.slstm import slstm_step

    x, cell = draw(1, 1, H), make_layer("sLSTM", H, 1)
    W, R, b = (cell.params[name] for name in "WRb")
    weight, u = np.concatenate((W, R[0]), axis=1).T.copy(), x[:, 0]

    def work() -> Any:
        state = cell.init_state(1)
        for _ in range(steps):
            gates = np.concatenate((u, state.h), axis=1) @ weight + b
            state = slstm_step(gates.reshape(4, 1, H), state)
        return state.h[:, None]

    return work


def mlstm_steps(d: int, steps: int) -> Work:
    """Set up the decode-step kernel with one head, called once per step."""
    from numpy_xlstm.kernels.mlstm.step import mlstm_step

    q, k, v, i, f = (array[:, :, 0] for array in mlstm_inputs(1, 1, 1, d))

    def work() -> Any:
        start = np.zeros((1, 1, d, d), F32), np.zeros((1, 1, d), F32), np.full((1, 1), -np.inf, F32)
        state: Any = nx.mLSTMState(*start)
        for _ in range(steps):
            h, state = mlstm_step(q, k, v, i, f, state, 1e-6)
        return h

    return work


def adamw(arrays: int, size: int) -> Work:
    params = {f"{n}": draw(size, size) for n in range(arrays)}
    grads = {name: array / 10 for name, array in params.items()}
    optimizer = nx.AdamW(params)
    return lambda: optimizer.step(grads)


class Model(NamedTuple):
    """A model with d features, with sLSTM blocks at ``slstm_at`` and mLSTM blocks elsewhere.

    Without ``slstm_at``, it is an xLSTM Large.
    """

    slstm_at: list[int] | str | None
    d: int
    num_blocks: int
    T: int = 256
    B: int = 4

    @property
    def options(self) -> dict[str, Any]:
        """Options that both packages take."""
        own = {"num_heads": 4} if self.slstm_at is None else {"slstm_at": self.slstm_at}
        sizes = {"num_blocks": self.num_blocks, "embedding_dim": self.d}
        return sizes | {"vocab_size": VOCABULARY} | own

    def batch(self) -> tuple[Array, Array]:
        """Return inputs and targets."""
        shape = self.B, self.T + 1
        tokens = np.random.default_rng(0).integers(0, VOCABULARY, shape)
        return tokens[:, :-1], tokens[:, 1:]

    def make(self) -> Any:
        """Make the model of numpy_xlstm."""
        rng, options = np.random.default_rng(0), self.options
        if self.slstm_at is None:
            return nx.xLSTMLarge(nx.xLSTMLargeConfig(**options), dtype=F32, rng=rng)
        blocks = nx.mLSTMBlockConfig(), nx.sLSTMBlockConfig()
        config = nx.xLSTMLMModelConfig(*blocks, **options)
        return nx.xLSTMLMModel(config, dtype=F32, rng=rng)


def training(spec: Model) -> Work:
    """Set up forward, backward and AdamW on all MPI ranks."""
    from numpy_xlstm.training import Batch, ranks, train_step

    model = spec.make()
    optimizer, step, comm = nx.AdamW(model.params), Batch(*spec.batch()), ranks.world()

    def work() -> None:
        train_step(model, optimizer, step, comm=comm)

    return work


def generation(spec: Model, tokens: int) -> Work:
    """Set up greedy generation of one row by the prepared model, as in ``generate``."""
    model = spec.make()

    def work() -> None:
        prepared = model.prepared()
        token, state = np.ones(1, np.int64), model.init_state(1)
        for _ in range(tokens):
            logits, state = prepared.compute(token, state)
            token = logits.argmax(-1)

    return work


def prefill(spec: Model) -> Work:
    """Set up a forward of a whole text, without residuals."""
    model, (tokens, _) = spec.make(), spec.batch()
    return lambda: model(tokens)[0][:, -1]


Product = tuple[int, tuple[int, ...], tuple[int, ...]]
"""Count of a product, and the shapes of its two matrices or stacks of matrices."""


def products(*shapes: Product) -> Work:
    """Set up matrix products alone, the floor of a row."""
    works = [(count, np.ones(a, F32), np.ones(b, F32)) for count, a, b in shapes]

    def work() -> None:
        for count, a, b in works:
            for _ in range(count):
                np.matmul(a, b)

    return work


def layer_products(
    gates: int, B: int, T: int, H: int, NH: int = 1, *, backward: bool = True
) -> Work:
    """Set up the products of a forward, and of a backward, of a layer."""
    G, DH = gates * H, H // NH
    if not backward:
        return products((T, (NH, B, DH), (NH, DH, gates * DH)), (1, (T * B, H), (H, G)))
    steps = [(T, (NH, B, a), (NH, a, b)) for a, b in ((DH, gates * DH), (gates * DH, DH))]
    dR = (1, (NH, gates * DH, T * B), (NH, T * B, DH))
    maps = ((T * B, H), (H, G)), ((T * B, G), (G, H)), ((G, T * B), (T * B, H))
    return products(*steps, dR, *((1, *pair) for pair in maps))


def chunkwise_products(B: int, NH: int, T: int, d: int) -> Work:
    """Set up the products of a forward and a backward in chunks of 64."""
    L = min(T, 64)
    sizes = [(L, d, L), (L, d, L)]  # scores, in both passes
    sizes += [(d, L, d), (L, L + d, d), (L, d, L + d), (L + d, L, d)]  # states, outputs and back
    sizes += [(L, d, d), (L, d, d), (L, L, d), (L, L, d)]  # gradients of keys and values
    chunks = B, NH, T // L
    return products(*((1, (*chunks, a, b), (*chunks, b, c)) for a, b, c in sizes))


def model_products(spec: Model, times: int, tokens: int = 1) -> Work:
    """Set up the products with the matrices of the model and of its memories.

    ``times`` is 3 with a backward, which has two products for each product of the forward.
    """
    model, (B, T), found = spec.make(), (spec.B, spec.T), list[Product]()
    for name, W in model.params.items():
        *stack, rows, width = W.shape if W.ndim > 1 else (0, 0)
        if name.endswith("_recurrent_kernel_"):
            found.append((times * T, W.shape, (*stack, width, B)))
        elif rows and "conv" not in name and "embedding" not in name:
            found.append((times, (*stack, B * T, width), (*stack, width, rows)))
    L = min(T, 64)
    for state in model.init_state(B):
        memory = getattr(state, "mlstm", state)
        if hasattr(memory, "C"):
            _, NH, DK, DV = memory.C.shape
            sizes = [(L, DK, DV)]  # reading the memory
            if T > 1:
                sizes += [(L, DK, L), (DK, L, DV), (L, L, DV)]  # scores, states and values
            found += [(times, (B, NH, T // L, a, b), (B, NH, T // L, b, c)) for a, b, c in sizes]
    return products(*found * tokens)
