"""Trainings compared with PyTorch: AdamW with decay groups, clipping and schedule."""

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
from tests.parity.official import (
    PAPER,
    official,
    torch,
    with_weights,
)

STEPS = 20
SCHEDULE = warmup_cosine(warmup=0.2, final=0.1)
OPTIONS: dict[str, Any] = {"lr": 3e-3, "betas": (0.9, 0.95), "eps": 1e-5, "weight_decay": 0.1}
"""Options of the official training; its ε hides the rounding of gradients near 0."""
MAX_NORM = 0.8


class TorchLSTM(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """Embedding, LSTM and head under our names."""

    def __init__(self, V: int, D: int, H: int) -> None:
        super().__init__()
        self.embedding = torch.nn.Embedding(V, D)
        self.cell = torch.nn.LSTM(D, H, batch_first=True)
        self.head = torch.nn.Linear(H, V)

    def forward(self, ids: Any) -> Any:
        return self.head(self.cell(self.embedding(ids))[0])


def lstm_pair() -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    ours = fill(LanguageModel(V, 6, LSTM(6, 8, rng=rng), rng=rng), rng)
    return ours, with_weights(TorchLSTM(V, 6, 8).double(), ours)


def xlstm_pair(name: str) -> tuple[Any, Any]:
    """Return usual initial values with noise, so that gates and rows differ.

    With large numbers, as in the parity tests of one step, training amplifies a rounding.
    """
    rng = np.random.default_rng(0)
    ours = xLSTMLMModel(PAPER[name](), rng=rng)
    for array in ours.params.values():
        array += 0.02 * rng.standard_normal(array.shape)
    return ours, with_weights(official(ours.config), ours)


PAIRS: dict[str, Callable[[], tuple[Any, Any]]] = {
    "lstm": lstm_pair,
    **{name: partial(xlstm_pair, name) for name in ("mixed", "tied")},
}


def draw_batches() -> list[Batch]:
    rng = np.random.default_rng(7)
    ids = rng.integers(0, V, (STEPS, 3, 9)) * rng.integers(0, 2, (STEPS, 3, 9))
    masks = rng.random((STEPS, 3, 8)) < 0.8
    return [Batch(r[:, :-1], r[:, 1:], mask) for r, mask in zip(ids, masks, strict=True)]


def groups(ours: Any, theirs: Any) -> list[dict[str, Any]]:
    """Return the parameters with and without decay in the official training, with their names."""
    decays = decay_rule(ours)
    with_decay, without = list[Any](), list[Any]()
    for name, parameter in theirs.named_parameters():
        chosen = with_decay if decays(name, ours.params[name]) else without
        chosen.append((name, parameter))
    return [{"params": with_decay}, {"params": without, "weight_decay": 0.0}]


def train_ours(ours: Any, optimizer: AdamW, batches: list[Batch], first: int = 0) -> Any:
    state = TrainingState(ours, optimizer, np.random.default_rng(0), step=first)
    known: Any = {"schedule": SCHEDULE, "max_norm": MAX_NORM}
    progress = train(state, batches, Budget(steps=STEPS), **known)
    return np.array([(step.loss, step.grad_norm) for step in progress])


def train_theirs(theirs: Any, optimizer: Any, batches: list[Batch], first: int = 0) -> Any:
    for group in optimizer.param_groups:
        group["lr"] = group.setdefault("initial_lr", group["lr"])  # as before the schedule
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda epoch: SCHEDULE((first + epoch + 1) / STEPS)
    )
    progress = []
    for batch in batches:
        logits = theirs(torch.tensor(batch.inputs))
        wanted = torch.tensor(np.where(np.asarray(batch.mask), batch.targets, -100))
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), wanted.flatten())
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(theirs.parameters(), MAX_NORM)
        optimizer.step()
        schedule.step()
        progress.append((loss.item(), norm.item()))
    return np.array(progress)


def copy_params(ours: Any, theirs: Any, *, here: bool) -> None:
    for name, parameter in theirs.named_parameters():
        if here:
            ours.params[name][...] = parameter.detach().numpy()
        else:
            with torch.no_grad():
                parameter.copy_(torch.tensor(ours.params[name]))


@pytest.mark.parametrize("name", PAIRS)
def test_ten_steps_there_and_ten_here(name: str) -> None:
    """A transfer of the state gives the losses, norms and parameters of twenty steps there."""
    batches = draw_batches()
    (ours, theirs), expected_params = PAIRS[name](), dict[str, Any]()
    whole = torch.optim.AdamW(groups(ours, theirs), **OPTIONS)
    expected = train_theirs(theirs, whole, batches)
    assert (expected[:, 1] > MAX_NORM).sum() > 0
    for key, parameter in theirs.named_parameters():
        expected_params[key] = parameter.detach().numpy()

    ours, theirs = PAIRS[name]()
    first = torch.optim.AdamW(groups(ours, theirs), **OPTIONS)
    train_theirs(theirs, first, batches[:10])
    copy_params(ours, theirs, here=True)
    second = AdamW(ours.params, decays=decay_rule(ours), **OPTIONS)
    arrays = {"t": np.array(10)}
    for key, parameter in theirs.named_parameters():
        entry = first.state[parameter]
        arrays |= {f"m.{key}": entry["exp_avg"].numpy(), f"v.{key}": entry["exp_avg_sq"].numpy()}
    second.load_state_dict(arrays)
    got = train_ours(ours, second, batches[10:], first=10)
    np.testing.assert_allclose(got, expected[10:], rtol=1e-12, atol=0)
    for key, array in expected_params.items():
        difference = np.abs(ours.params[key] - array).max()
        assert difference <= 1e-12 * np.abs(array).max(), key

    ours, theirs = PAIRS[name]()
    first_here = AdamW(ours.params, decays=decay_rule(ours), **OPTIONS)
    got = train_ours(ours, first_here, batches[:10])
    np.testing.assert_allclose(got, expected[:10], rtol=1e-12, atol=0)
    copy_params(ours, theirs, here=False)
    second_there = torch.optim.AdamW(groups(ours, theirs), **OPTIONS)
    tensors = {key: torch.tensor(array) for key, array in first_here.state_dict().items()}
    for key, parameter in theirs.named_parameters():
        moments = {"exp_avg": tensors[f"m.{key}"], "exp_avg_sq": tensors[f"v.{key}"]}
        second_there.state[parameter] = {"step": tensors["t"].float(), **moments}
    got = train_theirs(theirs, second_there, batches[10:], first=10)
    np.testing.assert_allclose(got, expected[10:], rtol=1e-12, atol=0)
