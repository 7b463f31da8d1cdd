"""The models of the package ``xlstm`` compared with ours: steps, states, initial values, dropout.

``test_checkpoints_paper.py`` and ``test_checkpoints_large.py`` compare logits and gradients. Where
the official code is inconsistent, a test documents the behaviour chosen here.
"""

from typing import Any

import numpy as np
import pytest

from numpy_xlstm.trees import tree_map
from tests.models.build import B, assert_close, assert_same, draw_tokens, flat, make, slstm_block
from tests.parity.official import (
    FORWARD,
    LARGE,
    PAPER,
    T,
    from_zero,
    official,
    pair,
    paper,
    torch,
    with_weights,
)
from tests.parity.states import from_official, to_official

STEPS = 37


def torch_state(state: Any) -> Any:
    if isinstance(state, dict):
        return {key: torch_state(value) for key, value in state.items()}
    if isinstance(state, tuple | list):
        return type(state)(torch_state(value) for value in state)
    return None if state is None else torch.tensor(state)


@pytest.mark.parametrize(
    ("name", "options"),
    [*((name, {}) for name in (*PAPER, *LARGE)), ("large-single", {"qk_dim_factor": 0.25})],
)
def test_token_by_token(name: str, options: dict[str, Any]) -> None:
    """Their steps start from m = 0; from half way, states are continued on both sides.

    A sequence of their Large begins with a prefill of whole chunks, which it splits into kernels.
    """
    ours, theirs = pair(name, mode="inference", **options)
    step = theirs.step if name in PAPER else theirs
    tokens, (now, taken) = draw_tokens(STEPS), (from_zero(ours), None)
    state: Any = None
    back: Any = None
    first = 1 if name in PAPER else T
    with torch.no_grad():
        for t in (0, *range(first, STEPS)):
            piece = tokens[:, t : t + 1] if t else tokens[:, :first]
            expected, state = step(torch.tensor(piece), state)
            logits, now = ours(piece, now)
            assert_close({"logits": logits}, {"logits": expected.numpy()}, FORWARD)
            if taken is not None:
                again, back = step(torch.tensor(piece), back)
                logits, taken = ours(piece, taken)
                assert_close({"logits": logits}, {"logits": expected.numpy()}, FORWARD)
                assert_close({"logits": again.numpy()}, {"logits": expected.numpy()}, 1e-13)
            elif t >= STEPS // 2:  # they change a state that they are given
                taken = tree_map(np.copy, from_official(ours, state))
                back = torch_state(to_official(ours, taken))
    for after in (now, taken):
        assert_close(flat(after), flat(from_official(ours, state)), FORWARD)


def test_the_empty_state_is_theirs() -> None:
    """They start from m = 0 and we from −∞; from m = 0, steps agree to rounding."""
    ours, theirs = pair("mixed")
    empty = to_official(ours, ours.init_state(B))
    assert not all(np.isfinite(a).all() for a in flat(from_official(ours, empty)).values())
    tokens = draw_tokens(1)
    with torch.no_grad():
        expected, _ = theirs.step(torch.tensor(tokens))
    y, _ = ours(tokens, from_official(ours, empty, keep_m=True))
    assert_close({"y": y}, {"y": expected.numpy()}, 1e-14)
    y, _ = ours(tokens, from_official(ours, empty))
    assert_same({"y": y}, {"y": ours(tokens)[0]})


class Masked(torch.nn.Module):  # type: ignore[misc]
    """Dropout with factors from a NumPy generator, in our order of axes."""

    def __init__(self, p: float, rng: np.random.Generator) -> None:
        super().__init__()
        self.p, self.rng = p, rng

    def forward(self, x: Any) -> Any:
        """Theirs drops entries of (B, NH, T, DH) in sLSTM, ours of (B, T, NH·DH)."""
        if x.ndim == 4:
            rows = x.permute(0, 2, 1, 3)
            mask = self.factors((rows.shape[0], rows.shape[1], rows.shape[2] * rows.shape[3]))
            return x * mask.reshape(rows.shape).permute(0, 2, 1, 3)
        return x * self.factors(x.shape)

    def factors(self, shape: Any) -> Any:
        return torch.tensor((self.rng.random(tuple(shape)) >= self.p) / (1 - self.p))


def test_dropout_is_where_theirs_is() -> None:
    """With the same entries dropped in the same order: embedding, layers and feed-forward."""
    config = paper(
        dropout=0.3, add_embedding_dropout=True, slstm_block=slstm_block(ffn={"dropout": 0.2})
    )
    ours = make(config, scale=0.4)
    theirs = with_weights(official(config), ours)
    rng, replaced = np.random.default_rng(5), 0
    for module in list(theirs.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, torch.nn.Dropout):
                setattr(module, name, Masked(child.p, rng))
                replaced += 1
    assert replaced == 5
    tokens = draw_tokens(STEPS)
    expected = theirs(torch.tensor(tokens)).detach().numpy()
    logits, _, _ = ours.forward(tokens, rng=np.random.default_rng(5))
    assert_close({"logits": logits}, {"logits": expected}, FORWARD)


def test_large_from_the_empty_state_differs_by_eps_only() -> None:
    """Their chunkwise form starts from m = 0, the xLSTM paper's sequence from m = −inf.

    Ours starts both from m = −inf. This matters only through ε = 1e-6, not with ε = 0.
    """
    for eps, tolerance in ((1e-6, 1e-6), (0.0, FORWARD)):
        ours, theirs = pair("large-single", eps=eps)
        tokens = draw_tokens(32)
        with torch.no_grad():
            expected = theirs(torch.tensor(tokens))[0].numpy()
        assert_close({"logits": ours(tokens)[0]}, {"logits": expected}, tolerance)
