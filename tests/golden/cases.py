"""Recorded cases of layers, models, generation and the optimiser, and their computation."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from numpy_xlstm import (
    LSTM,
    AdamW,
    CharacterTokenizer,
    FeedForwardConfig,
    LanguageModel,
    LSTMCell,
    generate_text,
    mLSTM,
    mLSTMBlock,
    mLSTMBlockConfig,
    mLSTMCell,
    mLSTMLayerConfig,
    sLSTM,
    sLSTMBlock,
    sLSTMBlockConfig,
    sLSTMCell,
    sLSTMLayerConfig,
    xLSTMBlockStack,
    xLSTMBlockStackConfig,
    xLSTMLarge,
    xLSTMLargeBlock,
    xLSTMLargeConfig,
    xLSTMLMModel,
    xLSTMLMModelConfig,
)
from tests.golden.recorded import RecordedLSTM
from tests.golden.store import Named, like, named

B, T, D, NH = 2, 7, 3, 2
H, QK = 4, 6  # two heads of DV = 2 and DK = 3
V = 5

Trees = dict[str, Named]


@dataclass(frozen=True)
class Case:
    """A layer or a model, and its inputs."""

    name: str
    build: Callable[[], Any]
    shape: tuple[int, ...]
    """Shape of the input."""
    tokens: bool = False
    """Whether the input is tokens rather than numbers."""
    with_state: bool = True
    lengths: tuple[int, ...] | None = None

    def run(self, given: Trees) -> Trees:
        """Compute outputs, final state and all gradients from the content of a file."""
        layer = self.build().with_params(given["params"])
        x, state = given["x"][""], None
        options = {} if self.lengths is None else {"lengths": np.array(self.lengths)}
        if self.tokens:
            x = x.astype(np.int64)
        if self.with_state:
            state = like(layer.forward(x)[1], given["state"])
        y, after, cache = layer.forward(x, state, **options)
        dstate = like(after, given["dstate"])
        dx, dstate0, grads = layer.backward(given["dy"][""], cache, dstate)
        results = {"y": y, "after": after, "dx": dx, "dstate0": dstate0, "grads": grads}
        return {key: named(tree) for key, tree in results.items() if tree is not None}


@dataclass(frozen=True)
class Family:
    """Return a step and a sequence with the same options."""

    name: str
    step: type[Any]
    sequence: Callable[..., Any]
    options: dict[str, Any] = field(default_factory=dict)
    forms: tuple[dict[str, Any], ...] = ({},)

    def build_step(self) -> Any:
        return self.step(D, H, **self.options)

    def build_sequence(self, form: dict[str, Any]) -> Any:
        return self.sequence(D, H, **self.options, **form)

    def cases(self) -> dict[str, Case]:
        cases = [Case(f"{self.name} step", self.build_step, (B, D))]
        for form in self.forms:
            name = " ".join([self.name, *map(str, form.values())])
            cases.append(Case(name, partial(self.build_sequence, form), (B, T, D)))
        return {case.name: case for case in cases}


FORMS = ({"form": "recurrent"}, {"form": "parallel"}, {"form": "chunkwise", "chunk_size": 3})


def _mlstm(forget_gate: str, input_gate: str, eps: float) -> Family:
    options = {"forget_gate": forget_gate, "input_gate": input_gate, "eps": eps}
    sizes = {"num_heads": NH, "qk_dim": QK}
    name = f"mLSTM {forget_gate} {input_gate} {eps:g}"
    return Family(name, mLSTMCell, mLSTM, options | sizes, FORMS)


FAMILIES = [
    Family("LSTM", LSTMCell, lambda *sizes: RecordedLSTM(LSTM(*sizes))),
    *(
        Family(f"sLSTM {f}", sLSTMCell, sLSTM, {"num_heads": NH, "forget_gate": f})
        for f in ("sigmoid", "exp")
    ),
    *(_mlstm(f, "exp", eps) for f in ("sigmoid", "exp") for eps in (0.0, 1e-6)),
    *(_mlstm(f, "sigmoid", 1e-6) for f in ("sigmoid", "exp")),
]
"""Return the variants of tests/variants.py, those with a denominator also with eps = 0."""

CELLS = {name: case for family in FAMILIES for name, case in family.cases().items()}


def _sequence_cases() -> dict[str, Case]:
    """Return cases with rows of different lengths, one of them 0, and with an empty state."""
    builds: dict[str, Callable[[], Any]] = {
        "LSTM": lambda: RecordedLSTM(LSTM(D, H)),
        "sLSTM": lambda: sLSTM(D, H, NH),
        "mLSTM": lambda: mLSTM(D, H, NH, qk_dim=QK, form="chunkwise", chunk_size=3),
    }
    cases = []
    for name, build in builds.items():
        cases.append(Case(f"{name} lengths", build, (3, T, D), lengths=(5, 0, 7)))
        cases.append(Case(f"{name} empty state", build, (B, T, D), with_state=False))
    return {case.name: case for case in cases}


SEQUENCES = _sequence_cases()


def _mlstm_block(embedding_dim: int = -1) -> mLSTMBlockConfig:
    return mLSTMBlockConfig(
        mlstm=mLSTMLayerConfig(
            conv1d_kernel_size=3,
            qkv_proj_blocksize=4,
            num_heads=NH,
            proj_factor=2.0,
            round_proj_up_to_multiple_of=4,
            embedding_dim=embedding_dim,
        )
    )


def _slstm_block(embedding_dim: int = -1) -> sLSTMBlockConfig:
    layer = sLSTMLayerConfig(conv1d_kernel_size=3, num_heads=NH, embedding_dim=embedding_dim)
    up = FeedForwardConfig(proj_factor=1.3, round_proj_up_to_multiple_of=2)
    return sLSTMBlockConfig(slstm=layer, feedforward=up)


def _stack_options() -> dict[str, Any]:
    return {
        "mlstm_block": _mlstm_block(),
        "slstm_block": _slstm_block(),
        "num_blocks": 2,
        "embedding_dim": 4,
        "slstm_at": [1],
        "bias": True,
    }


def _large(mode: str = "single") -> xLSTMLargeConfig:
    return xLSTMLargeConfig(
        embedding_dim=8,
        num_heads=NH,
        num_blocks=2,
        vocab_size=V,
        use_bias=mode == "fused",
        chunk_size=3,
        ffn_proj_factor=1.3,
        ffn_round_up_to_multiple_of=4,
        weight_mode=mode,  # type: ignore[arg-type]
    )


def lm(tie_weights: bool) -> xLSTMLMModel:
    """A language model of one mLSTM and one sLSTM block."""
    config = xLSTMLMModelConfig(**_stack_options(), vocab_size=V, tie_weights=tie_weights)
    return xLSTMLMModel(config)


def large(mode: str) -> xLSTMLarge:
    """An xLSTM Large of two blocks."""
    return xLSTMLarge(_large(mode))


def _model_cases() -> dict[str, Case]:
    blocks: dict[str, tuple[Callable[[], Any], int]] = {
        "mLSTMBlock": (lambda: mLSTMBlock(_mlstm_block(4)), 4),
        "sLSTMBlock": (lambda: sLSTMBlock(_slstm_block(4)), 4),
        "xLSTMLargeBlock": (lambda: xLSTMLargeBlock(_large()), 8),
        "xLSTMBlockStack": (
            lambda: xLSTMBlockStack(xLSTMBlockStackConfig(**_stack_options())),
            4,
        ),
    }
    models: dict[str, Callable[[], Any]] = {
        "xLSTMLMModel": lambda: lm(False),
        "xLSTMLMModel tied": lambda: lm(True),
        "xLSTMLarge": lambda: large("single"),
        "xLSTMLarge fused": lambda: large("fused"),
        "LanguageModel LSTM": lambda: RecordedLSTM(LanguageModel(V, D, LSTM(D, H))),
        "LanguageModel sLSTM": lambda: LanguageModel(V, D, sLSTM(D, H, NH)),
        "LanguageModel mLSTM": lambda: LanguageModel(V, D, mLSTM(D, H, NH, qk_dim=QK)),
    }
    cases = [Case(name, build, (B, T, width)) for name, (build, width) in blocks.items()]
    cases += [Case(name, build, (B, T), tokens=True) for name, build in models.items()]
    return {case.name: case for case in cases}


MODELS = _model_cases()

GENERATION: dict[str, Callable[[], Any]] = {
    "LanguageModel sLSTM": MODELS["LanguageModel sLSTM"].build,
    "xLSTMLMModel": MODELS["xLSTMLMModel"].build,
    "xLSTMLarge": MODELS["xLSTMLarge"].build,
}


def greedy(name: str, params: Named) -> Trees:
    """Generate 20 greedy tokens after a prompt."""
    tokenizer = CharacterTokenizer.of("abcd")
    model = GENERATION[name]().with_params(params)
    text = generate_text(model, tokenizer, "ab", max_new_tokens=20)
    return {"ids": {"": np.asarray(tokenizer.encode(text))}}


ADAMW = {"lr": 0.03, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}


def adamw(given: Trees) -> Trees:
    """Return parameters and moments after three steps, the last one with another learning rate."""
    params = {name: array.copy() for name, array in given["params"].items()}
    optimizer = AdamW(params, **ADAMW)  # type: ignore[arg-type]
    for step, lr in enumerate((None, None, 0.01)):
        optimizer.step(given[f"grads{step}"], lr=lr)
    return {"after": params, "m": optimizer.m, "v": optimizer.v}
