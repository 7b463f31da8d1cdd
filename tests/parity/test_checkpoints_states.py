"""States of the official models can be continued here, and ours there."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import from_official_state, from_pretrained, to_official_state
from tests.models.build import B, assert_close, assert_same, draw_tokens, flat
from tests.parity.checkpoints import (
    FORWARD,
    PAPER,
    large_model,
    paper_model,
    start,
    torch,
    transformers_model,
    write_large,
    write_paper,
)


@pytest.mark.parametrize("name", ["mixed", "slstm-only", "kernels"])
def test_states_of_the_paper_go_on_in_both_directions(name: str, tmp_path: Path) -> None:
    theirs = paper_model(PAPER[name]())
    ours = from_pretrained(write_paper(theirs, tmp_path / "lm"))
    tokens = draw_tokens(12)
    with torch.no_grad():
        state = None
        for t in range(6):
            _, state = theirs.step(torch.tensor(tokens[:, t : t + 1]), state)
        assert state is not None
        ours_now = from_official_state(ours, state)
        back = torch_state(to_official_state(ours, ours_now))
        for t in range(6, 12):
            expected, state = theirs.step(torch.tensor(tokens[:, t : t + 1]), state)
            again, back = theirs.step(torch.tensor(tokens[:, t : t + 1]), back)
            found, ours_now = ours(tokens[:, t : t + 1], ours_now)
            assert_close({"y": found}, {"y": expected.numpy()}, FORWARD)
            assert_close({"y": again.numpy()}, {"y": expected.numpy()}, 1e-14)
    assert_close(flat(ours_now), flat(from_official_state(ours, state)), FORWARD)


def torch_state(state: Any) -> Any:
    if isinstance(state, dict):
        return {key: torch_state(value) for key, value in state.items()}
    if isinstance(state, tuple | list):
        return type(state)(torch_state(value) for value in state)
    return None if state is None else torch.tensor(state)


def test_states_of_large_go_on_in_both_directions(tmp_path: Path) -> None:
    """Use complete chunks: theirs pads others with a forget gate slightly below 1."""
    theirs = large_model(qk_dim_factor=0.25)
    ours = from_pretrained(write_large(theirs, tmp_path / "large"))
    tokens = draw_tokens(32, vocab=31)
    with torch.no_grad():
        _, state = theirs(torch.tensor(tokens[:, :16]))
        ours_now = from_official_state(ours, state)
        assert_close(flat(ours_now), flat(ours(tokens[:, :16], start(ours))[1]), FORWARD)
        back = torch_state(to_official_state(ours, ours_now))
        again, _ = theirs(torch.tensor(tokens[:, 16:]), back)
        expected, state = theirs(torch.tensor(tokens[:, 16:]), state)
    found, ours_now = ours(tokens[:, 16:], ours_now)
    assert_close({"y": found}, {"y": expected.numpy()}, FORWARD)
    assert_close({"y": again.numpy()}, {"y": expected.numpy()}, 1e-13)
    assert_close(flat(ours_now), flat(from_official_state(ours, state)), FORWARD)


def test_the_cache_of_transformers(transformers: Any, tmp_path: Path) -> None:
    theirs = transformers_model(transformers, hidden_size=128, mode="inference").eval()
    theirs.save_pretrained(tmp_path)
    ours = from_pretrained(tmp_path)
    tokens = draw_tokens(12, vocab=31)
    with torch.no_grad():
        first = theirs(torch.tensor(tokens[:, :6]), use_cache=True)
        ours_now = from_official_state(ours, first.cache.rnn_state)
        second = theirs(torch.tensor(tokens[:, 6:]), cache=first.cache, use_cache=True)
    found, _ = ours(tokens[:, 6:], ours_now)
    assert_close({"y": found}, {"y": second.logits.numpy()}, 1e-5)


def test_the_empty_state_is_theirs(tmp_path: Path) -> None:
    """They start from m = 0 and we from −∞; from m = 0, steps agree to rounding."""
    theirs = paper_model(PAPER["mixed"]())
    ours = from_pretrained(write_paper(theirs, tmp_path / "lm"))
    empty = to_official_state(ours, ours.init_state(B))
    assert (
        all(np.isfinite(a).all() for _, a in flat(from_official_state(ours, empty)).items())
        is False
    )
    tokens = draw_tokens(1)
    with torch.no_grad():
        expected, _ = theirs.step(torch.tensor(tokens))
    found, _ = ours(tokens, from_official_state(ours, empty, keep_m=True))
    assert_close({"y": found}, {"y": expected.numpy()}, 1e-14)
    found, _ = ours(tokens, from_official_state(ours, empty))
    assert_same({"y": found}, {"y": ours(tokens)[0]})
