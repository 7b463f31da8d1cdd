"""Whole trainings beside PyTorch's: AdamW with decay groups, clipping and schedule."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import LSTM, LanguageModel, xLSTMLMModel
from numpy_xlstm.training import (
    AdamW,
    Batch,
    Budget,
    TrainingState,
    decay_rule,
    train,
    warmup_cosine,
)
from tests.models.build import V, fill
from tests.parity.test_models import PAPER, translated, with_weights, xlstm

torch = pytest.importorskip("torch", reason="PyTorch (the extra 'peers') is not installed")

STEPS = 50
SCHEDULE = warmup_cosine(warmup=0.2, final=0.1)
OPTIONS: dict[str, Any] = {"lr": 3e-3, "betas": (0.9, 0.95), "eps": 1e-5, "weight_decay": 0.1}
"""Those of the official training, whose ε keeps rounding out of gradients that are all but 0."""
MAX_NORM = 0.8


class TorchLSTM(torch.nn.Module):  # type: ignore[misc, name-defined]
    """Embedding, LSTM and head under our names, with one bias that is trained, as ours has."""

    def __init__(self, V: int, D: int, H: int) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(V, D)
        self.cell = torch.nn.LSTM(D, H, batch_first=True)
        self.head = torch.nn.Linear(H, V)
        torch.nn.init.zeros_(self.cell.bias_hh_l0).requires_grad_(False)

    def forward(self, ids: Any) -> Any:
        return self.head(self.cell(self.embedding(ids))[0])


OUR_NAMES = {
    "cell.weight_ih_l0": "cell.W",
    "cell.weight_hh_l0": "cell.R",
    "cell.bias_ih_l0": "cell.b",
}


def lstm_pair() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    ours = fill(LanguageModel(V, 6, LSTM(6, 8, rng=rng), rng=rng), rng)
    theirs = TorchLSTM(V, 6, 8).double()
    with torch.no_grad():
        for name, parameter in trained(theirs).items():
            parameter.copy_(torch.tensor(ours.params[name]))
    return ours, theirs


def trained(theirs: Any) -> dict[str, Any]:
    """Their parameters that are trained, by our names."""
    named = theirs.named_parameters()
    return {OUR_NAMES.get(name, name): p for name, p in named if p.requires_grad}


def xlstm_pair(name: str) -> tuple[Any, Any]:
    """From a usual start, with noise so that no two gates or rows are alike.

    Where all numbers are large, as in the parity tests of one step, training itself amplifies a
    rounding by 1e8 within 50 steps.
    """
    rng = np.random.default_rng(0)
    ours = xLSTMLMModel(PAPER[name](), rng=rng)
    for array in ours.params.values():
        array += 0.02 * rng.standard_normal(array.shape)
    return ours, with_weights(xlstm.xLSTMLMModel(translated(ours.config)), ours)


PAIRS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "lstm": lstm_pair,
    **{name: partial(xlstm_pair, name) for name in ("mixed", "mlstm-only", "slstm-only", "tied")},
}


def draw_batches(first: int = 0, last: int = STEPS) -> list[Batch]:
    rng = np.random.default_rng(7)
    ids = rng.integers(0, V, (last, 3, 18)) * rng.integers(0, 2, (last, 3, 18))
    masks = rng.random((last, 3, 17)) < 0.8
    return [
        Batch(rows[:, :-1], rows[:, 1:], mask)
        for rows, mask in zip(ids[first:], masks[first:], strict=True)
    ]


def groups(ours: Any, theirs: Any) -> list[dict[str, Any]]:
    """What decays, and what does not, as the official training has them."""
    decays = decay_rule(ours)
    found: dict[bool, list[Any]] = {True: [], False: []}
    for name, parameter in trained(theirs).items():
        found[decays(name, ours.params[name])].append(parameter)
    return [{"params": found[True]}, {"params": found[False], "weight_decay": 0.0}]


def train_ours(ours: Any, optimizer: AdamW, batches: list[Batch], first: int = 0) -> Any:
    state = TrainingState(ours, optimizer, np.random.default_rng(0), step=first)
    known: Any = {"schedule": SCHEDULE, "max_norm": MAX_NORM}
    found = [(p.loss, p.grad_norm) for p in train(state, batches, Budget(steps=STEPS), **known)]
    return np.array(found)


def train_theirs(theirs: Any, optimizer: Any, batches: list[Batch], first: int = 0) -> Any:
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda epoch: SCHEDULE((first + epoch + 1) / STEPS)
    )
    found = []
    for batch in batches:
        logits = theirs(torch.tensor(batch.inputs))
        wanted = torch.tensor(np.where(batch.mask, batch.targets, -100))
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten())
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(trained(theirs).values(), MAX_NORM)
        optimizer.step()
        schedule.step()
        found.append((loss.item(), norm.item()))
    return np.array(found)


@pytest.mark.parametrize("name", list(PAIRS))
def test_fifty_steps(name: str) -> None:
    """Losses, norms before clipping, and all parameters at the end."""
    ours, theirs = PAIRS[name]()
    optimizer = AdamW(ours.params, decays=decay_rule(ours), **OPTIONS)
    reference = torch.optim.AdamW(groups(ours, theirs), **OPTIONS)
    batches = draw_batches()
    found, expected = train_ours(ours, optimizer, batches), train_theirs(theirs, reference, batches)
    assert (expected[:, 1] > MAX_NORM).sum() > 0
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=0)
    for key, parameter in trained(theirs).items():
        difference = np.abs(ours.params[key] - parameter.detach().numpy()).max()
        assert difference <= 1e-12 * np.abs(ours.params[key]).max(), key
