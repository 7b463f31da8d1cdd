"""The xLSTM paper's model compared with the package ``xlstm``: logits, gradients, steps, states.

Where the official code is inconsistent, a test documents the behaviour chosen here.
"""

import dataclasses
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import xLSTMLMModel
from numpy_xlstm.numerics import Array
from numpy_xlstm.training import official_decay
from tests.models.build import assert_close, draw_tokens, flat, make
from tests.parity.models import (
    CELL,
    LOGITS,
    PAPER,
    STEPS,
    assert_same_gradients,
    cells,
    from_zero,
    paper,
    paper_pair,
    plain,
    torch,
    translated,
    with_weights,
    xlstm,
)


@pytest.mark.parametrize("name", list(PAPER))
def test_logits_and_gradients(name: str) -> None:
    """Their parallel form starts from the empty state, m = −inf, like ours."""
    ours, theirs = paper_pair(name)
    tokens = draw_tokens(STEPS)
    assert_same_gradients(ours, theirs, tokens, theirs(torch.tensor(tokens)))


def official_state(state: dict[str, Any]) -> dict[str, Array]:
    """Return their state in our layout; their convolution state includes the current input."""
    found = {}
    for n in range(len(state)):
        part = state[f"block_{n}"]
        kind = "mlstm" if "mlstm_state" in part else "slstm"
        if part["conv_state"] is not None:
            found[f"state.{n}.conv"] = part["conv_state"][0][:, 1:].numpy()
        if kind == "mlstm":
            C, vector, m = (array.numpy() for array in part["mlstm_state"])
            memory = {"C": C, "n": vector[..., 0], "m": m[..., 0, 0]}
        else:
            memory = dict(zip("hcnm", part["slstm_state"].numpy(), strict=True))
        found |= {f"state.{n}.{kind}.{field}": array for field, array in memory.items()}
    return found


@pytest.mark.parametrize("name", list(PAPER))
def test_token_by_token(name: str) -> None:
    """Logits of each step, and the state after the last one.

    Their steps start from C = n = m = 0, ours from m = −inf unless told otherwise. In sLSTM their
    rule "n = 0 everywhere" corresponds to our empty state.
    """
    ours, theirs = paper_pair(name)
    tokens, state, now = draw_tokens(STEPS), None, from_zero(ours)
    for t in range(STEPS):
        with torch.no_grad():
            expected, state = theirs.step(torch.tensor(tokens[:, t : t + 1]), state)
        logits, now = ours(tokens[:, t : t + 1], now)
        assert_close({"logits": logits}, {"logits": expected.numpy()}, LOGITS)
    assert state is not None
    assert_close(flat(now), official_state(state), LOGITS)
    whole, after, _ = ours.forward(tokens, from_zero(ours))
    assert_close(flat(after, {"logits": whole[:, -1:]}), flat(now, {"logits": logits}), 1e-11)


def test_their_steps_are_not_quite_their_sequence() -> None:
    """Their steps start at m = 0, their sequence at −inf; the effect of ε depends on m.

    Ours starts both at m = −inf, so that steps and sequence agree to rounding. The difference
    between theirs is far larger.
    """
    ours, theirs = paper_pair("mlstm-only")
    for name, array in ours.params.items():
        if name.endswith("igate.bias"):  # where ε matters: small memory, large m
            array[...] = -6
    with_weights(theirs, ours)
    tokens, state, now = draw_tokens(STEPS), None, None
    steps, own = [], []
    with torch.no_grad():
        sequence = theirs(torch.tensor(tokens)).numpy()
        for t in range(STEPS):
            logits, state = theirs.step(torch.tensor(tokens[:, t : t + 1]), state)
            steps.append(logits.numpy())
            ours_now, now = ours(tokens[:, t : t + 1], now)
            own.append(ours_now)
    assert np.abs(np.concatenate(steps, axis=1) - sequence).max() > 1e-8
    assert_close({"y": np.concatenate(own, axis=1)}, {"y": sequence}, LOGITS)


def test_their_fgate_feeds_the_input_gate() -> None:
    """The first of the four pre-activations is the input gate, but is named fgate.

    We keep their names for checkpoints. At the first step from the empty state, a change of
    ``igate``, which is the forget gate, has no effect in either model.
    """
    ours, theirs = paper_pair("slstm-only")
    tokens = draw_tokens(1)
    weight = "xlstm_block_stack.blocks.0.xlstm.{}.weight"

    def stabiliser() -> Any:
        state: Any = ours(tokens)[1][0]
        return state.slstm.m

    for gate, matters in (("igate", False), ("fgate", True)):
        name = weight.format(gate)
        before = stabiliser(), theirs.step(torch.tensor(tokens))[1]
        ours.params[name][...] *= 2
        with_weights(theirs, ours)
        after = stabiliser(), theirs.step(torch.tensor(tokens))[1]
        assert (np.abs(after[0] - before[0]).max() > 0) == matters
        m = [state["block_0"]["slstm_state"][3].detach().numpy() for state in (before[1], after[1])]
        assert (np.abs(m[1] - m[0]).max() > 0) == matters


def test_the_layout_of_their_cuda_backend() -> None:
    """Their backends order R and b differently; our layout is that of "vanilla".

    Checkpoints of both backends load as the same model.
    """
    ours, _ = paper_pair("mixed")
    arrays = ours.state_dict()
    config = translated(plain(embedding_dim=8, hidden_size=8).slstm)
    vanilla = cells.sLSTMCell(config)
    cuda = cells.sLSTMCell_cuda(config, skip_backend_init=True)
    kernel, bias = f"{CELL}._recurrent_kernel_", f"{CELL}._bias_"
    R = vanilla._recurrent_kernel_int2ext(torch.tensor(arrays[kernel]))
    b = vanilla._bias_int2ext(torch.tensor(arrays[bias]))
    arrays[kernel] = cuda._recurrent_kernel_ext2int(R).numpy()
    arrays[bias] = cuda._bias_ext2int(b).numpy()
    assert arrays[kernel].shape == (2, 4, 16)
    other = make(paper(), seed=9)
    assert np.abs(other.params[bias] - ours.params[bias]).max() > 0.1
    other.load_state_dict(arrays)
    for name in (kernel, bias):
        np.testing.assert_array_equal(other.params[name], ours.params[name])


@pytest.mark.parametrize("name", ["mixed", "tied", "biased"])
def test_what_starts_at_a_constant_starts_at_theirs(name: str) -> None:
    """Values after their ``reset_parameters()``: forget biases, norms, skip, R, biases of maps."""
    config = PAPER[name]()
    theirs = xlstm.xLSTMLMModel(translated(config))
    theirs.reset_parameters()
    ours = xLSTMLMModel(config, dtype=np.float32)
    random = ("proj", "gate.weight", "embedding", "head", "igate.bias", "conv")
    compared = 0
    for parameter, array in theirs.named_parameters():
        constant = parameter.endswith(("proj_up.bias", "proj_down.bias", "q_proj.bias"))
        constant |= ".mlstm_cell." in parameter and parameter.endswith("gate.weight")
        if constant or not any(part in parameter for part in random):
            np.testing.assert_allclose(
                ours.params[parameter], array.detach().numpy(), atol=2e-6, err_msg=parameter
            )
            compared += 1
    assert compared >= 16


@pytest.mark.parametrize("name", ["mixed", "tied", "biased", "no-conv"])
@pytest.mark.parametrize("on_embedding", [False, True])
def test_the_groups_of_weight_decay(name: str, on_embedding: bool) -> None:
    config = dataclasses.replace(PAPER[name](), weight_decay_on_embedding=on_embedding)
    ours = xLSTMLMModel(config)
    theirs = xlstm.xLSTMLMModel(translated(config))
    decay, no_decay = theirs.get_weight_decay_optim_group_param_names()
    rule = official_decay(on_embedding)
    found = {key for key, array in ours.params.items() if rule(key, array)}
    assert found == set(decay)
    assert ours.params.keys() - found == set(no_decay)


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
    config = paper(dropout=0.3, add_embedding_dropout=True, slstm_block=plain(ffn={"dropout": 0.2}))
    ours = make(config, scale=0.4)
    theirs = with_weights(xlstm.xLSTMLMModel(translated(config)), ours)
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
    assert_close({"logits": logits}, {"logits": expected}, LOGITS)
