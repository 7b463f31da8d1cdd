"""Recorded cases of layers, models, generation and the optimiser, and their computation."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

import numpy as np

from numpy_xlstm import (
    AdamW,
    CharacterTokenizer,
    LanguageModel,
    LSTMCell,
    LSTMState,
    SequenceLayer,
    generate_text,
    mLSTM,
    sLSTM,
    xLSTMBlockStack,
)
from numpy_xlstm.conformance.catalogue import FAMILIES, SUBJECTS
from tests.golden.store import Named, like, named
from tests.variants import sequence

B, T, D, NH = 2, 7, 3, 2
H, QK = 4, 6  # two heads of DV = 2 and DK = 3
V = 5
SMALL = {"input_size": D, "hidden_size": H, "num_heads": NH, "qk_dim": QK}

Trees = dict[str, Named]


@dataclass(frozen=True)
class Case:
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


FORMS = ({"form": "recurrent"}, {"form": "parallel"}, {"form": "chunkwise", "chunk_size": 3})
MORE: dict[str, dict[str, dict[str, float]]] = {
    "lstm": {"LSTM": {}},
    "slstm": {"sLSTM {forget_gate}": {}},
    "mlstm": {
        "mLSTM {forget_gate} exp 0": {"eps": 0.0},
        "mLSTM {forget_gate} exp 1e-06": {"eps": 1e-6},
    },
    "mlstmsig": {"mLSTM {forget_gate} sigmoid 1e-06": {"eps": 1e-6}},
}
"""Families of the catalogue, and titles and further options of their cases."""


def _cells() -> Iterator[Case]:
    """Yield each variant of these families as a step and as a sequence, the mLSTM in all forms."""
    for name, titles in MORE.items():
        family = FAMILIES[name]
        for variant, (title, more) in product(family.variants.values(), titles.items()):
            options = {key: SMALL.get(key, value) for key, value in variant.items()} | more
            title = title.format(**variant)
            yield Case(f"{title} step", partial(family.cell, **options), (B, D))
            for form in FORMS if more else ({},):
                build = partial(sequence(family), **options, **form)
                yield Case(" ".join([title, *map(str, form.values())]), build, (B, T, D))


CELLS = {case.name: case for case in _cells()}


def _sequences() -> Iterator[Case]:
    """Yield cases with rows of different lengths, one of them 0, and with an empty state."""
    layers: dict[str, Callable[[], Any]] = {
        "LSTM": lambda: lstm(D, H),
        "sLSTM": lambda: sLSTM(D, H, num_heads=NH),
        "mLSTM": lambda: mLSTM(D, H, num_heads=NH, qk_dim=QK, form="chunkwise", chunk_size=3),
    }
    for name, build in layers.items():
        yield Case(f"{name} lengths", build, (3, T, D), lengths=(5, 0, 7))
        yield Case(f"{name} empty state", build, (B, T, D), with_state=False)


SEQUENCES = {case.name: case for case in _sequences()}


def lstm(*sizes: int, **options: Any) -> SequenceLayer[LSTMState]:
    """Make an LSTM with the parameters of the cell."""
    return SequenceLayer(LSTMCell(*sizes, **options))


BLOCK = {"embedding_dim": 4, "proj_factor": 2.0}
PAPER = BLOCK | {"vocab_size": V}
BODY = {"vocab_size": V, "embedding_size": D, "hidden_size": H}


def build(subject: str, variant: str = "", specification: Any = None, **changed: Any) -> Any:
    """Make a subject of the catalogue with some of its options changed."""
    found = SUBJECTS[subject]
    assert found.make is not None, "a subject without a module"
    options = {**found.variants[variant], **changed}
    return found.make(specification or found.specification, options)


MODELS = {
    name: Case(name, partial(build, *subject, **changed), shape, tokens=len(shape) == 2)
    for name, subject, changed, shape in (
        ("mLSTMBlock", ["block.mlstm"], BLOCK, (B, T, 4)),
        ("sLSTMBlock", ["block.slstm"], {"embedding_dim": 4}, (B, T, 4)),
        ("xLSTMLargeBlock", ["block.xlstm-large"], {"use_bias": False}, (B, T, 8)),
        ("xLSTMBlockStack", ["model.xlstm", "untied", xLSTMBlockStack], PAPER, (B, T, 4)),
        ("xLSTMLMModel", ["model.xlstm", "untied"], PAPER, (B, T)),
        ("xLSTMLMModel tied", ["model.xlstm", "tied"], PAPER, (B, T)),
        (
            "xLSTMLarge",
            ["model.xlstm-large", "single"],
            {"vocab_size": V, "use_bias": False},
            (B, T),
        ),
        ("xLSTMLarge fused", ["model.xlstm-large", "fused"], {"vocab_size": V}, (B, T)),
        ("LanguageModel LSTM", ["model.lstm", "", (LanguageModel, lstm)], BODY, (B, T)),
        ("LanguageModel sLSTM", ["model.slstm"], BODY, (B, T)),
        ("LanguageModel mLSTM", ["model.mlstm"], BODY | {"qk_dim": QK, "eps": 1e-6}, (B, T)),
    )
}
GENERATION = ("LanguageModel sLSTM", "xLSTMLMModel", "xLSTMLarge")


def greedy(name: str, params: Named) -> Trees:
    """Generate 20 greedy tokens after a prompt."""
    tokenizer = CharacterTokenizer.of("abcd")
    model = MODELS[name].build().with_params(params)
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
