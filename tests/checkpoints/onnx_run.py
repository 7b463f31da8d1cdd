"""Runs of exported graphs in ONNX Runtime or, where it lacks a kernel, in onnx's own evaluator."""

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st

from numpy_xlstm import GRU, LSTM, RNN, SequenceLayer, mLSTM, sLSTM
from numpy_xlstm.cells import LSTMPCell, OriginalGRUCell, PeepholeLSTMCell, mLSTMCell
from numpy_xlstm.checkpoints.onnx import to_onnx
from numpy_xlstm.layers import CausalConv1d, Stacked
from numpy_xlstm.models import LanguageModel
from numpy_xlstm.numerics import Array
from numpy_xlstm.trees import leaves, rebuild
from tests.models.build import fill, large_configs, lm_configs, make

IN_FLOAT32 = {"Erf", "LSTM", "GRU", "RNN"}
"""Operators without a float64 kernel in ONNX Runtime."""


def runtime_session(proto: Any) -> Any:
    """Return a session of ONNX Runtime with one thread, which prints errors alone."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def needs_runtime() -> None:
    """Skip the test without onnx and ONNX Runtime."""
    pytest.importorskip("onnx", reason="onnx (the extra 'cli') is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime (the extra 'dev') is not installed")


class Session:
    """An exported graph with the calls of the model."""

    def __init__(self, model: Any, **options: Any) -> None:
        needs_runtime()
        proto = to_onnx(model, **options)
        self.names = [each.name for each in proto.graph.output]
        self.first = proto.graph.input[0].name
        self.operators = operators(proto.graph)
        self.evaluated = bool(IN_FLOAT32 & self.operators) and model.dtype == np.float64
        if self.evaluated:
            from onnx.reference import ReferenceEvaluator
            from onnx.reference.op_run import OpRun
            from scipy.special import erf

            class Erf(OpRun):
                """The evaluator rounds it to float32."""

                def _run(self, x: Array) -> tuple[Array]:
                    return (erf(x),)

            self.session: Any = ReferenceEvaluator(proto, new_ops=[Erf])
        else:
            self.session = runtime_session(proto)

    def __call__(self, x: Array, state: Any) -> tuple[Array, Any]:
        """Return y and the state after it, as the model does."""
        given = {name: array for name, array in leaves("state", state) if array.size}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the evaluator computes logs of 0
            found = self.session.run(None, {self.first: np.ascontiguousarray(x), **given})
        named = dict(zip(self.names, found, strict=True))
        after = [named.get(f"next_{name}", array) for name, array in leaves("state", state)]
        return found[0], rebuild(state, iter(after))


def beside(model: Any, count: int = 4) -> list[Any]:
    """Return the model, and copies whose parameters differ by one unit in the last place or less.

    Where a denominator is near 0, the error of one run in float32 depends on chance. The largest of
    several says how exact float32 is there.
    """
    models, half = [model], np.finfo(model.dtype).eps / 2
    for seed in range(count):
        rng = np.random.default_rng(seed)
        changed = {
            name: (array * (1 + rng.uniform(-half, half, array.shape))).astype(model.dtype)
            for name, array in model.params.items()
        }
        models.append(model.with_params(changed))
    return models


def in_pieces(
    run: Callable[[Array, Any], tuple[Array, Any]],
    x: Array,
    state: Any,
    sizes: Sequence[int],
    axis: int = 1,
) -> tuple[Array, Any]:
    """Call a session or a model with pieces of these numbers of steps."""
    ys = []
    for piece in np.split(x, np.cumsum(sizes)[:-1], axis=axis):
        y, state = run(piece, state)
        ys.append(y)
    return np.concatenate(ys, axis=axis), state


def onnx_function(add: Callable[[Any], Any], x: Array) -> Array:
    """Return the result for x of the nodes that ``add`` adds for a tensor."""
    needs_runtime()
    from onnx import helper

    from numpy_xlstm.checkpoints.onnx.graph import OPSET, Graph, Tensor

    g = Graph(x.dtype, step=True)
    y = add(Tensor(g, "x")).name
    graph = helper.make_graph(g.nodes, "f", [g.info("x", x.shape)], [g.info(y)], g.initializers())
    opsets = [helper.make_opsetid("", OPSET)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    result: Array = runtime_session(proto).run(None, {"x": x})[0]
    return result


def operators(graph: Any) -> set[str]:
    """Return the operators of a graph, also within branches and loops."""
    bodies = [a.g for node in graph.node for a in node.attribute if a.HasField("g")]
    return {node.op_type for node in graph.node}.union(*map(operators, bodies))


def inputs(model: Any, steps: int, rng: np.random.Generator, rows: int = 2) -> Array:
    """Draw tokens, or numbers in the layout of a layer."""
    if isinstance(model, LanguageModel):
        return rng.integers(0, model.vocab_size, (rows, steps))
    shape = (rows, steps) if model.batch_first else (steps, rows)
    return rng.standard_normal((*shape, model.in_features)).astype(model.dtype)


def layers() -> st.SearchStrategy[Any]:
    """Draw layers of all kinds."""
    two, gates, flag = st.integers(1, 2), st.sampled_from(["sigmoid", "exp"]), st.booleans()
    of_torch = {"num_layers": two, "bidirectional": flag, "bias": flag, "batch_first": flag}
    D, H = st.integers(1, 3), st.integers(2, 4)
    heads = st.builds(lambda each, NH: (each * NH, NH), st.integers(1, 3), st.integers(1, 3))
    slstm = st.builds(
        lambda d, h, f: sLSTM(d, h[0], num_heads=h[1], forget_gate=f), D, heads, gates
    )
    mlstm = st.builds(
        lambda d, h, k, i, f: mLSTM(
            d, h[0], num_heads=h[1], qk_dim=k * h[1], input_gate=i, forget_gate=f
        ),
        *(D, heads, st.integers(1, 3), gates, gates),
    )
    relu = st.sampled_from(["tanh", "relu"])
    projected = st.integers(0, 1)
    cells = st.sampled_from([PeepholeLSTMCell, OriginalGRUCell, mLSTMCell, LSTMPCell])
    return st.one_of(
        slstm,
        mlstm,
        st.builds(LSTM, D, H, **of_torch, proj_size=projected),
        st.builds(GRU, D, H, **of_torch),
        st.builds(RNN, D, H, **of_torch, nonlinearity=relu),
        st.builds(
            lambda cell, d, h: SequenceLayer(cell(d, h, *[2] * (cell is LSTMPCell))), cells, D, H
        ),
        st.builds(CausalConv1d, D, st.integers(1, 4)),
        st.builds(
            lambda a: Stacked([[a, a.over(a.state_dict())], [GRU(2 * a.out_features, 3)]]), slstm
        ),
    )


@st.composite
def models(draw: st.DrawFn) -> Any:
    """Draw models of all kinds in float64, with random parameters."""
    seed, width = draw(st.integers(0, 2**32 - 1)), st.integers(1, 3)
    rng = np.random.default_rng(seed)
    made: Any = draw(st.one_of(lm_configs(width), large_configs(width), layers()))
    if not hasattr(made, "init_state"):
        return draw(st.sampled_from([lambda m: m, lambda m: m.body, lambda m: m.body.blocks[0]]))(
            make(made, seed=seed)
        )
    if draw(st.booleans()) and made.batch_first and made.causal and hasattr(made, "hidden_size"):
        return fill(LanguageModel(5, made.in_features, made, rng=rng), rng)
    return fill(made, rng)
