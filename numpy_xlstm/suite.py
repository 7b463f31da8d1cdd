"""What ``numpy-xlstm gradcheck`` checks: every cell, variant, layer and model, at a random point.

A case is a name and a function of (rng, dtype) that gives a target and its inputs. Nothing is zero
at that point, neither a bias nor a state, so that no mistake can hide behind a zero.
"""

from collections.abc import Callable, Mapping
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from numpy_xlstm import cells, kernels, layers, models
from numpy_xlstm.errors import OptionError
from numpy_xlstm.kernels import mlstm
from numpy_xlstm.module import Module
from numpy_xlstm.numerics import Array
from numpy_xlstm.trees import leaves, rebuild

Target = tuple[Any, tuple[Any, ...]]
Case = Callable[[np.random.Generator, Any], Target]
Inputs = Callable[[np.random.Generator, Any], Any]

B, T, D, H, NH, QK = 2, 4, 3, 4, 2, 6
WIDTH = 72
"""Of blocks and models: so that most of it is checked along directions, which is quick."""
SMALL = 0.15
"""Size of the matrices of a deep model, of which differences are less precise."""
GATES = ("sigmoid", "exp")
SEQUENCES = (layers.LSTMSequence, layers.sLSTM, layers.mLSTM)


def cases() -> dict[str, Case]:
    """All cases by name, in the order in which they are checked."""
    found = _recurrent() | _memories() | _guests() | _stacks()
    return found | _stateless_layers() | _models()


def _recurrent() -> dict[str, Case]:
    """LSTM and sLSTM, as a step, over a sequence, and over given pre-activations."""
    found: dict[str, Case] = {
        "LSTMCell": _step(cells.LSTMCell, D, H),
        "LSTMSequence": _sequence(layers.LSTMSequence, D, H),
        "lstm_recurrent": _given("lstm_recurrent", layers.LSTMSequence),
    }
    for forget in GATES:
        options = {"num_heads": NH, "forget_gate": forget}
        found[f"sLSTMCell/{forget}"] = _step(cells.sLSTMCell, D, H, **options)
        found[f"sLSTM/{forget}"] = _sequence(layers.sLSTM, D, H, **options)
        name = f"slstm_recurrent/{forget}"
        found[name] = _given("slstm_recurrent", layers.sLSTM, forget_gate=forget)
    return found


def _memories() -> dict[str, Case]:
    """The variants of mLSTM, as a step, over a sequence, and each form as a function."""
    found: dict[str, Case] = {}
    for forget, input_gate in product(GATES, reversed(GATES)):
        gates = {"forget_gate": forget, "input_gate": input_gate}
        name, options = f"{forget}-{input_gate}", {"num_heads": NH, "qk_dim": QK, **gates}
        found[f"mLSTMCell/{name}"] = _step(cells.mLSTMCell, D, H, **options)
        found[f"mLSTM/{name}"] = _sequence(layers.mLSTM, D, H, **options)
        for form in ("recurrent", "parallel"):
            found[f"mlstm_{form}/{name}"] = _memory(f"mlstm_{form}", **gates)
        found[f"mlstm_chunkwise/{name}"] = _memory("mlstm_chunkwise", chunk_size=3, **gates)
    return found


def _guests() -> dict[str, Case]:
    """The cells without a kernel, as a step and unrolled, and all over different lengths."""
    found: dict[str, Case] = {}
    for cell in (cells.GRUCell, cells.ElmanCell, cells.PeepholeLSTMCell):
        found[cell.__name__] = _step(cell, D, H)
        found[f"lengths/{cell.__name__}"] = _padded(_sequence(partial(_unrolled, cell), D, H))
    found["LSTMPCell"] = _step(cells.LSTMPCell, D, H, 2)
    found["lengths/LSTMPCell"] = _padded(_sequence(partial(_unrolled, cells.LSTMPCell), D, H, 2))
    for layer in SEQUENCES:
        found[f"lengths/{layer.__name__}"] = _padded(_sequence(layer, D, H))
    return found


def _stacks() -> dict[str, Case]:
    """LSTM, GRU and RNN with PyTorch's options, and stacks of any layer."""
    found: dict[str, Case] = {}
    for kind in (layers.LSTM, layers.GRU, layers.RNN):
        both = _sequence(kind, D, 2, 2, bidirectional=True)
        found[kind.__name__] = _sequence(kind, D, H)
        found[f"{kind.__name__}/bidirectional"] = both
        found[f"{kind.__name__}/no-bias"] = _sequence(kind, D, H, 2, bias=False)
        found[f"lengths/{kind.__name__}"] = _padded(both)
        found[f"dropout/{kind.__name__}"] = _called(_sequence(kind, D, H, 3, dropout=0.4), rng=5)
    found["LSTM/projected"] = _sequence(layers.LSTM, D, H, 2, bidirectional=True, proj_size=2)
    found["lengths/LSTM/projected"] = _padded(found["LSTM/projected"])
    found["RNN/relu"] = _sequence(layers.RNN, D, H, 2, nonlinearity="relu")
    for layer in (layers.sLSTM, layers.mLSTM, partial(_unrolled, cells.PeepholeLSTMCell)):
        name = getattr(layer, "__name__", "PeepholeLSTMCell")
        case = _sequence(partial(layers.stack_layers, layer), D, 2, 2, bidirectional=True)
        found[f"Stacked/{name}"] = case
        found[f"lengths/Stacked/{name}"] = _padded(case)
    return found


def _stateless_layers() -> dict[str, Case]:
    found: dict[str, Case] = {
        "Linear": _stateless(layers.Linear, D, H),
        "HeadwiseLinear": _stateless(layers.HeadwiseLinear, 6, 2, bias=True, out_features=4),
        "CausalConv1d": _sequence(layers.CausalConv1d, D),
        "soft_cap": _soft_cap,
        "Embedding": _embedding,
        "softmax_cross_entropy": _loss,
    }
    for norm in (layers.LayerNorm, layers.RMSNorm):
        found[norm.__name__] = _stateless(norm, D, bias=True)
    for by_head in (layers.MultiHeadLayerNorm, layers.MultiHeadRMSNorm):
        found[by_head.__name__] = _stateless(by_head, NH, D, bias=True)
    for act_fn in ("gelu", "swish"):
        case = _stateless(layers.GatedFeedForward, D, H, act_fn, bias=True)
        found[f"GatedFeedForward/{act_fn}"] = case
    for name in ("silu", "gelu", "gelu_tanh"):
        found[name] = _activation(*_pair(layers, name))
    return found


def _models() -> dict[str, Case]:
    bodies = layers.LSTM, layers.sLSTM, layers.mLSTM
    found = {f"LanguageModel/{body.__name__}": _language_model(body) for body in bodies}
    found["mLSTMBlock"] = _block(models.mLSTMBlock, _mlstm_block(embedding_dim=WIDTH, bias=True))
    feed = models.FeedForwardConfig(proj_factor=1.0, round_proj_up_to_multiple_of=4, bias=True)
    found["sLSTMBlock"] = _block(models.sLSTMBlock, _slstm_block(feed, embedding_dim=WIDTH))
    for label, tied in (("mixed", False), ("tied", True)):
        found[f"xLSTMLMModel/{label}"] = _xlstm(tie_weights=tied)
    for mode in ("single", "fused"):
        found[f"xLSTMLarge/{mode}"] = _xlstm_large(weight_mode=mode)
    return found


def _pair(module: Any, name: str) -> tuple[Any, Any]:
    """A function and its backward."""
    return getattr(module, name), getattr(module, f"{name}_backward")


def _stateful(make: Callable[..., Any], inputs: Inputs, maps: float = 1.0) -> Case:
    """A cell, layer or model, from a random state; its matrices are multiplied by ``maps``."""

    def case(rng: np.random.Generator, dtype: Any) -> Target:
        layer, x = _filled(make(dtype=dtype), rng, maps), inputs(rng, dtype)
        return layer, (x, random_state(layer.init_state(len(x)), rng))

    return case


def _step(cell: Callable[..., Any], *sizes: int, **options: Any) -> Case:
    return _stateful(partial(cell, *sizes, **options), lambda rng, dtype: _x(rng, dtype)[:, 0])


def _sequence(layer: Callable[..., Any], *sizes: int, **options: Any) -> Case:
    return _stateful(partial(layer, *sizes, **options), _x)


def _unrolled(cell: type[Any], *sizes: int, dtype: Any) -> layers.SequenceLayer:
    """A cell over a sequence, step by step."""
    return layers.SequenceLayer(cell(*sizes, dtype=dtype))


def _given(name: str, layer: type[Any], **options: Any) -> Case:
    """A recurrence over given pre-activations."""
    forward, backward = _pair(kernels, name)

    def case(rng: np.random.Generator, dtype: Any) -> Target:
        Wx = rng.standard_normal((B, T, 4 * H)).astype(dtype)
        R = rng.standard_normal((NH, 4 * H // NH, H // NH)).astype(dtype)
        state = random_state(layer(D, H, dtype=dtype).init_state(B), rng)
        return (partial(forward, **options), backward), (Wx, R, state)

    return case


def _memory(name: str, **options: Any) -> Case:
    """A form of mLSTM as a function."""
    forward, backward = _pair(mlstm, name)

    def case(rng: np.random.Generator, dtype: Any) -> Target:
        q, k = rng.standard_normal((2, B, NH, T, 3)).astype(dtype)
        v = rng.standard_normal((B, NH, T, 2)).astype(dtype)
        i, f = rng.standard_normal((2, B, NH, T)).astype(dtype)
        gate = options["input_gate"]
        empty = layers.mLSTM(1, 4, NH, qk_dim=6, input_gate=gate, dtype=dtype).init_state(B)
        pair = partial(forward, eps=1e-2, **options), backward
        return pair, (q, k, v, i, f, random_state(empty, rng))

    return case


class Called(Module):
    """A sequence layer called with lengths, or with the same draws of dropout each time."""

    def __init__(self, layer: Any, lengths: Array | None, rng: int | None) -> None:
        self.layer, self.lengths, self.seed, self.params = layer, lengths, rng, layer.params

    def forward(self, x: Array, state: Any) -> Any:
        """Run over the sequences; lengths and draws are constants."""
        rng = None if self.seed is None else np.random.default_rng(self.seed)
        layer = self.layer.with_params(self.params)
        return layer.forward(x, state, rng=rng, lengths=self.lengths)

    def backward(self, dy: Array, cache: Any, dstate: Any) -> Any:
        """Back through :meth:`forward`."""
        return self.layer.with_params(self.params).backward(dy, cache, dstate)


def _called(sequence: Case, lengths: Array | None = None, rng: int | None = None) -> Case:
    def case(generator: np.random.Generator, dtype: Any) -> Target:
        layer, inputs = sequence(generator, dtype)
        return Called(layer, lengths, rng), inputs

    return case


def _padded(sequence: Case) -> Case:
    return _called(sequence, np.array([T - 1, T]))


def _stateless(kind: type[Any], *sizes: Any, **options: Any) -> Case:
    def case(rng: np.random.Generator, dtype: Any) -> Target:
        layer = _filled(kind(*sizes, **options, dtype=dtype), rng)
        return layer, (rng.standard_normal((B, T, layer.in_features)).astype(dtype),)

    return case


def _activation(forward: Any, backward: Any) -> Case:
    def case(rng: np.random.Generator, dtype: Any) -> Target:
        return (forward, backward), (_x(rng, dtype),)

    return case


def _soft_cap(rng: np.random.Generator, dtype: Any) -> Target:
    return (lambda x: layers.soft_cap(x, 1.5), layers.soft_cap_backward), (_x(rng, dtype),)


def _embedding(rng: np.random.Generator, dtype: Any) -> Target:
    return _filled(layers.Embedding(5, D, dtype=dtype), rng), (rng.integers(5, size=(B, T)),)


def _loss(rng: np.random.Generator, dtype: Any) -> Target:
    logits = rng.standard_normal((B, T, 5)).astype(dtype)
    return _pair(layers, "softmax_cross_entropy"), (logits, rng.integers(5, size=(B, T)))


def _language_model(layer: type[Any]) -> Case:
    def make(dtype: Any) -> models.LanguageModel:
        heads = [] if layer is layers.LSTM else [NH]
        return models.LanguageModel(5, D, layer(D, H, *heads, dtype=dtype))

    return _stateful(make, lambda rng, dtype: rng.integers(5, size=(B, T)))


def _mlstm_block(**options: Any) -> models.mLSTMBlockConfig:
    sizes = {"num_heads": NH, "proj_factor": 1.0, "round_proj_up_to_multiple_of": 4}
    sizes |= {"qkv_proj_blocksize": WIDTH}
    return models.mLSTMBlockConfig(models.mLSTMLayerConfig(**(sizes | options)))


def _slstm_block(
    feed: models.FeedForwardConfig | None = None, **options: Any
) -> models.sLSTMBlockConfig:
    return models.sLSTMBlockConfig(models.sLSTMLayerConfig(num_heads=NH, **options), feed)


def _block(kind: Callable[..., Any], config: Any) -> Case:
    def x(rng: np.random.Generator, dtype: Any) -> Array:
        drawn: Array = rng.standard_normal((1, T, WIDTH)).astype(dtype)
        return drawn

    return _stateful(partial(kind, config), x, SMALL)


def _xlstm(**options: Any) -> Case:
    """One mLSTM and one sLSTM block."""
    config = models.xLSTMLMModelConfig(
        mlstm_block=_mlstm_block(),
        slstm_block=_slstm_block(),
        num_blocks=2,
        embedding_dim=WIDTH,
        slstm_at=[1],
        vocab_size=6,
        **options,
    )
    return _model(models.xLSTMLMModel, config)


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
    return _model(models.xLSTMLarge, config)


def _model(kind: Callable[..., Any], config: Any) -> Case:
    return _stateful(partial(kind, config), lambda rng, dtype: rng.integers(6, size=(1, T)), SMALL)


def _x(rng: np.random.Generator, dtype: Any) -> Array:
    x: Array = rng.standard_normal((B, T, D)).astype(dtype)
    return x


def _filled(layer: Any, rng: np.random.Generator, maps: float = 1.0) -> Any:
    """Overwrite all parameters, biases too, by normal numbers, and make the maps smaller."""
    for name, array in layer.params.items():
        array[...] = rng.standard_normal(array.shape)
        if array.ndim > 1 and not name.endswith("embedding.weight"):
            array *= maps
    return layer


def random_state(empty: Any, rng: np.random.Generator) -> Any:
    """A state like ``empty`` with normal numbers, and a positive n in sLSTM, as it always is."""
    values = {name: rng.standard_normal(a.shape).astype(a.dtype) for name, a in leaves("", empty)}
    for name, n in values.items():
        if name.endswith(".n") and f"{name[:-1]}h" in values:
            values[name] = np.abs(n) + n.dtype.type(0.1)
    return rebuild(empty, iter(values.values()))


def select(names: list[str], available: Mapping[str, Case]) -> list[str]:
    """Cases whose name, or whose part before the slash, is asked for in any letter case."""
    labels = {name: {name.lower(), name.lower().split("/")[0]} for name in available}
    wanted = {name.lower() for name in names}
    chosen = [name for name in available if not wanted or labels[name] & wanted]
    if unknown := sorted(wanted - set().union(*labels.values())):
        groups = sorted({name.split("/")[0] for name in available})
        raise OptionError(f"gradcheck: expected some of {', '.join(groups)}; got {unknown[0]!r}")
    return chosen
