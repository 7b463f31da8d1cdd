"""Cases of ``numpy-xlstm gradcheck``: every cell, variant, layer and model at a random point.

A case is a name and a function of (rng, dtype) that returns a target and its inputs. Biases and
states are non-zero, because a factor of zero hides mistakes. Tokens repeat, because otherwise a
backward that overwrites instead of adding would pass.
"""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from numpy_xlstm import cells, kernels, layers, models
from numpy_xlstm.cells import gates
from numpy_xlstm.errors import OptionError
from numpy_xlstm.kernels import mlstm
from numpy_xlstm.module import Module
from numpy_xlstm.numerics import Array, did_you_mean
from numpy_xlstm.trees import leaves, rebuild

Target = tuple[Any, tuple[Any, ...]]
Case = Callable[[np.random.Generator, Any], Target]
Draw = Callable[[np.random.Generator, Any], Any]
"""Function of a generator and a dtype that draws an input."""

B, T, D, H, NH, QK = 2, 4, 3, 4, 2, 6
WIDTH = 72
"""Width of blocks and models. It is so large that most tensors are checked along random directions,
which is quicker than entry by entry."""
DEEP = 0.15
"""Scale of the matrices of a deep model. It is small, because finite differences are less precise
for a deep model."""
SEQUENCES = (layers.LSTMSequence, layers.sLSTM, layers.mLSTM)


def cases() -> dict[str, Case]:
    """Return the names and cases of all checks, in order."""
    sequences = _recurrent() | _memories() | _custom_cells() | _stacks()
    return sequences | _stateless_layers() | _models()


def _recurrent() -> dict[str, Case]:
    """Make cases of LSTM and sLSTM: a step, a sequence, and given pre-activations."""
    found: dict[str, Case] = {
        "LSTMCell": _step(cells.LSTMCell),
        "LSTMSequence": _sequence(layers.LSTMSequence),
        "lstm_recurrent": _given("lstm_recurrent", layers.LSTMSequence),
    }
    for forget in gates.KINDS:
        options = {"num_heads": NH, "forget_gate": forget}
        found[f"sLSTMCell/{forget}"] = _step(cells.sLSTMCell, **options)
        found[f"sLSTM/{forget}"] = _sequence(layers.sLSTM, **options)
        name = f"slstm_recurrent/{forget}"
        found[name] = _given("slstm_recurrent", layers.sLSTM, forget_gate=forget)
    return found


def _memories() -> dict[str, Case]:
    """Make cases of the variants of mLSTM: a step, a sequence, and each form as a function."""
    found: dict[str, Case] = {}
    for forget, input_gate in product(gates.KINDS, reversed(gates.KINDS)):
        kinds = {"forget_gate": forget, "input_gate": input_gate}
        name, options = f"{forget}-{input_gate}", {"num_heads": NH, "qk_dim": QK, **kinds}
        found[f"mLSTMCell/{name}"] = _step(cells.mLSTMCell, **options)
        found[f"mLSTM/{name}"] = _sequence(layers.mLSTM, **options)
        for form, more in (("recurrent", {}), ("parallel", {}), ("chunkwise", {"chunk_size": 3})):
            found[f"mlstm_{form}/{name}"] = _memory(f"mlstm_{form}", **kinds, **more)
    return found


def _custom_cells() -> dict[str, Case]:
    """Make cases of one step of the other cells, and of sequences of all cells with lengths."""
    found: dict[str, Case] = {}
    plain = cells.GRUCell, cells.OriginalGRUCell, cells.ElmanCell, cells.PeepholeLSTMCell
    for cell in (*plain, cells.LSTMPCell):
        options = {"proj_size": 2} if cell is cells.LSTMPCell else {}
        found[cell.__name__] = _step(cell, **options)
        found[f"lengths/{cell.__name__}"] = _padded(partial(_unrolled, cell), **options)
    for layer in SEQUENCES:
        found[f"lengths/{layer.__name__}"] = _padded(layer)
    return found


def _stacks() -> dict[str, Case]:
    """Make cases of LSTM, GRU and RNN with PyTorch's options, and of stacks of any layer."""
    found: dict[str, Case] = {}
    both: dict[str, Any] = {"num_layers": 2, "bidirectional": True}
    for kind in (layers.LSTM, layers.GRU, layers.RNN):
        name = kind.__name__
        found[name] = _sequence(kind)
        found[f"{name}/bidirectional"] = _sequence(kind, **both)
        found[f"{name}/no-bias"] = _sequence(kind, num_layers=2, bias=False)
        found[f"dropout/{name}"] = _called(_sequence(kind, num_layers=3, dropout=0.4), rng=5)
        found[f"lengths/{name}"] = _padded(kind, **both)
    found["LSTM/projected"] = _sequence(layers.LSTM, **both, proj_size=2)
    found["lengths/LSTM/projected"] = _padded(layers.LSTM, **both, proj_size=2)
    found["RNN/relu"] = _sequence(layers.RNN, num_layers=2, nonlinearity="relu")
    for layer in (layers.sLSTM, layers.mLSTM, partial(_unrolled, cells.PeepholeLSTMCell)):
        name = getattr(layer, "__name__", "PeepholeLSTMCell")
        stack = partial(layers.stack_layers, layer)
        found[f"Stacked/{name}"] = _sequence(stack, **both)
        found[f"lengths/Stacked/{name}"] = _padded(stack, **both)
    return found


def _stateless_layers() -> dict[str, Case]:
    x, wide = _normal(B, T, D), _normal(B, T, NH * D)
    headwise = partial(layers.HeadwiseLinear, NH * D, 2, bias=True, out_features=4)
    cap = partial(layers.soft_cap, cap=1.5)
    loss = _pair(layers, "softmax_cross_entropy")
    found: dict[str, Case] = {
        "Linear": _layer(partial(layers.Linear, D, H), x),
        "HeadwiseLinear": _layer(headwise, wide),
        "CausalConv1d": _layer(partial(layers.CausalConv1d, D), x),
        "soft_cap": _functions(cap, layers.soft_cap_backward, x),
        "Embedding": _layer(partial(layers.Embedding, 5, D), _ids(5, B, T)),
        "softmax_cross_entropy": _functions(*loss, _normal(B, T, 5), _ids(5, B, T)),
    }
    for norm in (layers.LayerNorm, layers.RMSNorm):
        found[norm.__name__] = _layer(partial(norm, D, bias=True), x)
    for by_head in (layers.MultiHeadLayerNorm, layers.MultiHeadRMSNorm):
        found[by_head.__name__] = _layer(partial(by_head, NH, D, bias=True), wide)
    for act_fn in ("gelu", "swish"):
        feed = partial(layers.GatedFeedForward, D, H, act_fn, bias=True)
        found[f"GatedFeedForward/{act_fn}"] = _layer(feed, x)
    for name in ("silu", "gelu", "gelu_tanh"):
        found[name] = _functions(*_pair(layers, name), x)
    return found


def _models() -> dict[str, Case]:
    bodies = layers.LSTM, layers.sLSTM, layers.mLSTM
    found = {f"LanguageModel/{body.__name__}": _language_model(body) for body in bodies}
    x, memory = _normal(1, T, WIDTH), _mlstm_block(embedding_dim=WIDTH, bias=True)
    found["mLSTMBlock"] = _layer(partial(models.mLSTMBlock, memory), x, DEEP)
    feed = models.FeedForwardConfig(proj_factor=1.0, round_proj_up_to_multiple_of=4, bias=True)
    layer = models.sLSTMLayerConfig(embedding_dim=WIDTH, num_heads=NH)
    scalar = models.sLSTMBlockConfig(layer, feed)
    found["sLSTMBlock"] = _layer(partial(models.sLSTMBlock, scalar), x, DEEP)
    for label, tied in (("mixed", False), ("tied", True)):
        found[f"xLSTMLMModel/{label}"] = _xlstm(tie_weights=tied)
    for mode in ("single", "fused"):
        found[f"xLSTMLarge/{mode}"] = _xlstm_large(weight_mode=mode)
    return found


def _pair(module: Any, name: str) -> tuple[Any, Any]:
    return getattr(module, name), getattr(module, f"{name}_backward")


def _normal(*shape: int) -> Draw:
    return lambda rng, dtype: rng.standard_normal(shape).astype(dtype)


def _ids(size: int, *shape: int) -> Draw:
    return lambda rng, dtype: rng.integers(size, size=shape)


def _functions(forward: Any, backward: Any, *inputs: Draw) -> Case:
    """Make a case of a function and its backward."""
    return lambda rng, dtype: ((forward, backward), tuple(draw(rng, dtype) for draw in inputs))


def _layer(make: Callable[..., Any], inputs: Draw, maps: float = 1.0) -> Case:
    """Make a case of a cell, layer or model with a random state; ``maps`` scales its matrices."""

    def case(rng: np.random.Generator, dtype: Any) -> Target:
        layer = make(dtype=dtype)
        for name, array in layer.params.items():
            array[...] = rng.standard_normal(array.shape)
            if array.ndim > 1 and not name.endswith("embedding.weight"):
                array *= maps
        x = inputs(rng, dtype)
        if not hasattr(layer, "init_state"):
            return layer, (x,)
        return layer, (x, random_state(layer.init_state(len(x)), rng))

    return case


def _step(cell: Callable[..., Any], **options: Any) -> Case:
    return _layer(partial(cell, D, H, **options), _normal(B, D))


def _sequence(layer: Callable[..., Any], **options: Any) -> Case:
    return _layer(partial(layer, D, H, **options), _normal(B, T, D))


def _unrolled(cell: type[Any], *sizes: int, **options: Any) -> layers.SequenceLayer:
    """Make a sequence layer of a cell, which runs its kernel if there is one."""
    return layers.SequenceLayer(cell(*sizes, **options))


class Called(Module):
    """A sequence layer that is called with lengths, or with the same dropout each time."""

    def __init__(self, layer: Any, lengths: Array | None, rng: int | None) -> None:
        self.layer, self.parts, self.lengths, self.rng = layer, {"layer": ""}, lengths, rng

    def forward(self, x: Array, state: Any) -> Any:
        """Run over the sequences with constant lengths and dropout."""
        rng = None if self.rng is None else np.random.default_rng(self.rng)
        return self.layer.forward(x, state, rng=rng, lengths=self.lengths)

    def backward(self, dy: Array, cache: Any, dstate: Any) -> Any:
        """Compute the backward of :meth:`forward`."""
        return self.layer.backward(dy, cache, dstate)


def _called(sequence: Case, lengths: Array | None = None, rng: int | None = None) -> Case:
    def case(generator: np.random.Generator, dtype: Any) -> Target:
        layer, inputs = sequence(generator, dtype)
        return Called(layer, lengths, rng), inputs

    return case


def _padded(layer: Callable[..., Any], **options: Any) -> Case:
    return _called(_sequence(layer, **options), np.array([T - 1, T]))


def _state(layer: Callable[..., Any]) -> Draw:
    return lambda rng, dtype: random_state(layer(dtype=dtype).init_state(B), rng)


def _given(name: str, layer: Callable[..., Any], **options: Any) -> Case:
    """Make a case of a recurrence over given pre-activations."""
    forward, backward = _pair(kernels, name)
    inputs = _normal(B, T, 4 * H), _normal(NH, 4 * H // NH, H // NH), _state(partial(layer, D, H))
    return _functions(partial(forward, **options), backward, *inputs)


def _memory(name: str, **options: Any) -> Case:
    """Make a case of a form of mLSTM as a function."""
    forward, backward = _pair(mlstm, name)
    layer = partial(layers.mLSTM, 1, 4, NH, qk_dim=6, input_gate=options["input_gate"])
    inputs = [_normal(B, NH, T, 3)] * 2 + [_normal(B, NH, T, 2)] + [_normal(B, NH, T)] * 2
    return _functions(partial(forward, eps=1e-2, **options), backward, *inputs, _state(layer))


def _language_model(layer: type[Any]) -> Case:
    def make(dtype: Any) -> models.LanguageModel:
        heads = [] if layer is layers.LSTM else [NH]
        return models.LanguageModel(5, D, layer(D, H, *heads, dtype=dtype))

    return _layer(make, _ids(5, B, T))


def _mlstm_block(**options: Any) -> models.mLSTMBlockConfig:
    sizes = {"proj_factor": 1.0, "round_proj_up_to_multiple_of": 4, "qkv_proj_blocksize": WIDTH}
    return models.mLSTMBlockConfig(models.mLSTMLayerConfig(num_heads=NH, **(sizes | options)))


def _xlstm(**options: Any) -> Case:
    """Make a case of a model with one mLSTM and one sLSTM block."""
    config = models.xLSTMLMModelConfig(
        mlstm_block=_mlstm_block(),
        slstm_block=models.sLSTMBlockConfig(models.sLSTMLayerConfig(num_heads=NH), None),
        num_blocks=2,
        embedding_dim=WIDTH,
        slstm_at=[1],
        vocab_size=6,
        **options,
    )
    return _layer(partial(models.xLSTMLMModel, config), _ids(3, 1, T), DEEP)


def _xlstm_large(**options: Any) -> Case:
    config = models.xLSTMLargeConfig(
        embedding_dim=WIDTH,
        num_heads=NH,
        num_blocks=1,
        vocab_size=6,
        ffn_proj_factor=1.0,
        ffn_round_up_to_multiple_of=4,
        chunk_size=3,
        use_bias=True,
        **options,
    )
    return _layer(partial(models.xLSTMLarge, config), _ids(3, 1, T), DEEP)


def random_state(empty: Any, rng: np.random.Generator) -> Any:
    """Draw a state like ``empty`` from a normal distribution, with positive n for sLSTM."""
    values = {name: rng.standard_normal(a.shape).astype(a.dtype) for name, a in leaves("", empty)}
    for name, n in values.items():
        if name.endswith(".n") and f"{name[:-1]}h" in values:
            values[name] = np.abs(n) + n.dtype.type(0.1)
    return rebuild(empty, iter(values.values()))


def select(names: list[str], available: Mapping[str, Case]) -> list[str]:
    """Return the cases with these names or prefixes before the slash, in any letter case."""
    labels = {name: {name.lower(), name.lower().split("/")[0]} for name in available}
    wanted = {name.lower() for name in names}
    chosen = [name for name in available if not wanted or labels[name] & wanted]
    if unknown := sorted(wanted - set().union(*labels.values())):
        groups = sorted({name.split("/")[0] for name in available})
        hint = did_you_mean(unknown[0], {n for each in labels.values() for n in each})
        raise OptionError(
            f"gradcheck: expected some of {', '.join(groups)}; got {unknown[0]!r}{hint}"
        )
    return chosen
