"""Both language models beside the package ``xlstm``: names, logits, gradients, steps, states.

Where the official code contradicts itself, a test says which behaviour is ours and why.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import (
    mLSTMState,
    xLSTMLarge,
    xLSTMLargeConfig,
    xLSTMLMModel,
    xLSTMLMModelConfig,
)
from numpy_xlstm.models import LanguageModel, mLSTMBlockState
from numpy_xlstm.numerics import Array
from numpy_xlstm.training import official_decay
from tests.models.build import (
    B,
    assert_close,
    draw_tokens,
    flat,
    large_config,
    lm_config,
    make,
    mlstm_block,
    slstm_block,
)

torch = pytest.importorskip("torch", reason="PyTorch (the extra 'peers') is not installed")
REASON = "xlstm (the extra 'peers') is not installed"
xlstm = pytest.importorskip("xlstm", reason=REASON, exc_type=ImportError)
cells = pytest.importorskip("xlstm.blocks.slstm.cell", reason=REASON, exc_type=ImportError)
large = pytest.importorskip("xlstm.xlstm_large.model", reason=REASON, exc_type=ImportError)

# The kernels of Large are compiled when first used, with what their PyTorch calls outdated.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning")
torch.set_num_threads(1)  # the models are tiny

LOGITS, GRADIENTS = 1e-10, 1e-9
STEPS = 37
CELL = "xlstm_block_stack.blocks.1.xlstm.slstm_cell"


def plain(**options: Any) -> Any:
    """An sLSTM block that the official package runs on a CPU."""
    cpu = {"backend": "vanilla", "dtype": "float32", "enable_automatic_mixed_precision": False}
    return slstm_block(**(cpu | options))


def paper(**options: Any) -> xLSTMLMModelConfig:
    return lm_config(**({"slstm_block": plain(), "context_length": 64} | options))


PAPER: dict[str, Callable[[], xLSTMLMModelConfig]] = {
    "mixed": paper,
    "mlstm-only": lambda: paper(slstm_at=[], slstm_block=None),
    "slstm-only": lambda: paper(slstm_at="all", mlstm_block=None),
    "tied": lambda: paper(tie_weights=True),
    "biased": lambda: paper(bias=True, slstm_block=plain(ffn={"bias": True, "act_fn": "swish"})),
    "tied-biased": lambda: paper(tie_weights=True, bias=True, slstm_at=[0, 2]),
    "no-ffn": lambda: paper(slstm_block=plain(ffn=False, group_norm_weight=False)),
    "no-conv": lambda: paper(slstm_block=plain(conv1d_kernel_size=0), add_post_blocks_norm=False),
    "kernels": lambda: paper(
        mlstm_block=mlstm_block(conv1d_kernel_size=2, qkv_proj_blocksize=2),
        slstm_block=plain(conv1d_kernel_size=3, num_heads=1),
    ),
}
LARGE: dict[str, dict[str, Any]] = {
    f"{mode}{'-bias' if bias else ''}": {"weight_mode": mode, "use_bias": bias}
    for mode in ("single", "fused")
    for bias in (False, True)
}


def translated(config: Any) -> Any:
    """The official configuration with the same values."""
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    values = {n: translated(v) if dataclasses.is_dataclass(v) else v for n, v in values.items()}
    return getattr(xlstm, type(config).__name__)(**values)


def with_weights(theirs: Any, ours: LanguageModel) -> Any:
    """Their model in float64 with our weights, copied by name."""
    theirs = theirs.double()
    arrays = ours.state_dict()
    assert set(arrays) == set(theirs.state_dict())
    theirs.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()})
    return theirs


def paper_pair(name: str) -> tuple[xLSTMLMModel, Any]:
    ours = make(PAPER[name](), scale=0.4)
    assert isinstance(ours, xLSTMLMModel)
    return ours, with_weights(xlstm.xLSTMLMModel(translated(ours.config)), ours)


def large_pair(mode: Any = "train", **options: Any) -> tuple[xLSTMLarge, Any]:
    """Chunks of 16, the smallest that theirs takes."""
    kernels = {
        "chunkwise_kernel": "chunkwise--native_autograd",
        "sequence_kernel": "native_sequence__native",
        "step_kernel": "native",
        "autocast_kernel_dtype": "float64",
        "inference_state_dtype": "float64",
        "norm_reduction_force_float32": False,
        "return_last_states": True,
        "mode": mode,
    }
    sizes = {"embedding_dim": 32, "chunk_size": 16}
    ours = make(large_config(**(sizes | kernels | options)), scale=0.3)
    assert isinstance(ours, xLSTMLarge)
    theirs = large.xLSTMLarge(large.xLSTMLargeConfig(**ours.config.to_dict()))
    return ours, with_weights(theirs, ours)


def assert_same_gradients(
    ours: LanguageModel, theirs: Any, tokens: Array, logits: Any, state: Any = None
) -> None:
    """Of ours from the state, and of theirs through the graph of its logits."""
    dlogits = np.random.default_rng(3).standard_normal(tuple(logits.shape))
    (logits * torch.tensor(dlogits)).sum().backward()
    found, _, cache = ours.forward(tokens, state)
    assert_close({"logits": found}, {"logits": logits.detach().numpy()}, LOGITS)
    _, _, grads = ours.backward(dlogits, cache)
    expected = {name: p.grad.numpy() for name, p in theirs.named_parameters()}
    assert_close(grads, expected, GRADIENTS)


def from_zero(ours: LanguageModel) -> Any:
    """The empty state, but with m = 0 in the mLSTM parts, as the official steps start."""

    def zero(memory: mLSTMState) -> mLSTMState:
        assert memory.m is not None
        return memory._replace(m=np.zeros_like(memory.m))

    def start(part: Any) -> Any:
        if isinstance(part, mLSTMBlockState):
            return part._replace(mlstm=zero(part.mlstm))
        return zero(part) if isinstance(part, mLSTMState) else part

    return tuple(start(part) for part in ours.init_state(B))


# The first paper's model


@pytest.mark.parametrize("name", list(PAPER))
def test_logits_and_gradients(name: str) -> None:
    """Their parallel form starts from nothing, as ours does: m = −inf."""
    ours, theirs = paper_pair(name)
    tokens = draw_tokens(STEPS)
    assert_same_gradients(ours, theirs, tokens, theirs(torch.tensor(tokens)))


def official_state(state: dict[str, Any]) -> dict[str, Array]:
    """Their state of all blocks in our layout: the convolution's has the current input too."""
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
    rule "n = 0 everywhere" is that of our empty state.
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
    """m starts at 0 in one and at −inf in the other, and ε is added to a number scaled by e^−m.

    Ours is one path: its default is the sequence's start, m = −inf, for steps as well, so that
    steps and sequence agree to rounding; the difference between theirs is far larger than that.
    """
    ours, theirs = paper_pair("mlstm-only")
    for name, array in ours.params.items():
        if name.endswith("igate.bias"):  # where ε counts: small memory, large m
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
    """The first of the four pre-activations is the input gate, and it is called fgate.

    We keep their names, since checkpoints have them: at the first step from the empty state, a
    change of ``igate``, which is the forget gate, changes nothing in either model.
    """
    ours, theirs = paper_pair("slstm-only")
    tokens = draw_tokens(1)
    weight = "xlstm_block_stack.blocks.0.xlstm.{}.weight"
    for gate, matters in (("igate", False), ("fgate", True)):
        name = weight.format(gate)
        before = ours(tokens)[1][0].slstm.m, theirs.step(torch.tensor(tokens))[1]
        ours.params[name][...] *= 2
        with_weights(theirs, ours)
        after = ours(tokens)[1][0].slstm.m, theirs.step(torch.tensor(tokens))[1]
        assert (np.abs(after[0] - before[0]).max() > 0) == matters
        m = [state["block_0"]["slstm_state"][3].detach().numpy() for state in (before[1], after[1])]
        assert (np.abs(m[1] - m[0]).max() > 0) == matters


def test_the_layout_of_their_cuda_backend() -> None:
    """The same numbers have other places in R and b there. Our layout is that of "vanilla".

    Reading a checkpoint of either gives the same model.
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
    """After their ``reset_parameters()``: forget biases, norms, skip, R, biases of maps."""
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


class Masked(torch.nn.Module):  # type: ignore[misc, name-defined]
    """Dropout whose factors come from a NumPy generator, in our order of axes."""

    def __init__(self, p: float, rng: np.random.Generator) -> None:
        super().__init__()
        self.p, self.rng = p, rng

    def forward(self, x: Any) -> Any:
        """Theirs drops (B, NH, T, DH) in sLSTM, ours the same entries as (B, T, NH·DH)."""
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


# xLSTM Large


def large_state(state: dict[int, Any], ours: xLSTMLarge) -> dict[str, Array]:
    """Theirs divides q by √DK and ours k: their C and n are √DK times ours."""
    root = np.sqrt(ours.config.qk_dim // ours.config.num_heads)
    found: dict[str, Array] = {}
    for n, (C, vector, m) in state.items():
        arrays = {"C": C / root, "n": vector / root, "m": m[..., 0]}
        found |= {f"state.{n}.{key}": a.detach().numpy() for key, a in arrays.items()}
    return found


@pytest.mark.parametrize("name", list(LARGE))
def test_large_in_training(name: str) -> None:
    """Logits, gradients and last states; theirs starts from m = 0 here."""
    ours, theirs = large_pair(**LARGE[name])
    tokens = draw_tokens(32)
    logits, state = theirs(torch.tensor(tokens))
    assert_same_gradients(ours, theirs, tokens, logits, from_zero(ours))
    after = ours(tokens, from_zero(ours))[1]
    assert_close(flat(after), large_state(state, ours), LOGITS)


def test_large_from_the_empty_state_differs_by_eps_only() -> None:
    """Their chunkwise form starts from m = 0, the first paper's sequence from m = −inf.

    Ours starts both from m = −inf. The difference is where ε, 1e-6, counts: none without it.
    """
    for eps, tolerance in ((1e-6, 1e-6), (0.0, LOGITS)):
        ours, theirs = large_pair(eps=eps)
        tokens = draw_tokens(32)
        with torch.no_grad():
            expected = theirs(torch.tensor(tokens))[0].numpy()
        assert_close({"logits": ours(tokens)[0]}, {"logits": expected}, tolerance)


@pytest.mark.parametrize("name", list(LARGE))
def test_large_in_inference(name: str) -> None:
    """A prefill, which theirs splits into kernels, then steps."""
    ours, theirs = large_pair("inference", **LARGE[name])
    tokens = draw_tokens(38)
    with torch.no_grad():
        expected, state = theirs(torch.tensor(tokens[:, :32]))
        logits, now = ours(tokens[:, :32], from_zero(ours))
        assert_close({"logits": logits}, {"logits": expected.numpy()}, LOGITS)
        assert_close(flat(now), large_state(state, ours), LOGITS)
        for t in range(32, 38):
            expected, state = theirs(torch.tensor(tokens[:, t : t + 1]), state)
            logits, now = ours(tokens[:, t : t + 1], now)
            assert_close({"logits": logits}, {"logits": expected.numpy()}, LOGITS)
    assert_close(flat(now), large_state(state, ours), LOGITS)


def test_large_forgets_a_little_in_a_padded_prefill() -> None:
    """A prefill that is no multiple of a chunk is padded, with a forget gate that is not quite 1.

    Their m is then less by 1.4e-11 for each step of padding. Their own steps and ours know none.
    """
    ours, theirs = large_pair("inference")
    tokens, by_step = draw_tokens(33), None
    with torch.no_grad():
        expected, padded = theirs(torch.tensor(tokens))
        for t in range(33):
            _, by_step = theirs(torch.tensor(tokens[:, t : t + 1]), by_step)
    logits, now = ours(tokens, from_zero(ours))
    assert by_step is not None
    assert_close({"logits": logits}, {"logits": expected.numpy()}, LOGITS)
    assert_close(flat(now), large_state(by_step, ours), LOGITS)
    lost = flat(now)["state.0.m"] - large_state(padded, ours)["state.0.m"]
    np.testing.assert_allclose(lost, 15 * np.log1p(np.exp(-25.0)), rtol=1e-3)


def test_large_does_not_change_the_state_that_it_is_given() -> None:
    """Theirs writes the new state into the one that it was given; ours leaves it alone."""
    ours, theirs = large_pair("inference")
    tokens = draw_tokens(4)
    with torch.no_grad():
        _, state = theirs(torch.tensor(tokens))
        before = state[0][0].clone()
        theirs(torch.tensor(tokens), state)
    assert (state[0][0] != before).any()
    _, now = ours(tokens)
    kept = now[0].C.copy()
    ours(tokens, now)
    np.testing.assert_array_equal(now[0].C, kept)


def test_large_as_it_is_used_in_float32() -> None:
    """With the float32 norms and states that are their defaults."""
    kernels = {
        "autocast_kernel_dtype": "float32",
        "inference_state_dtype": "float32",
        "norm_reduction_force_float32": True,
    }
    ours, theirs = large_pair("inference", **kernels)
    tokens = draw_tokens(39)
    with torch.no_grad():
        expected, state = theirs.float()(torch.tensor(tokens))
        step = theirs(torch.tensor(tokens[:, :1]), state)[0].numpy()
    narrow = ours.astype(np.float32)
    logits, now = narrow(tokens)
    assert logits.dtype == np.float32
    assert_close({"logits": logits}, {"logits": expected.numpy()}, 1e-5)
    assert_close({"logits": narrow(tokens[:, :1], now)[0]}, {"logits": step}, 1e-5)


def test_the_official_default_of_large_has_the_same_names() -> None:
    """Both layouts, with and without biases, without the last norm."""
    for options in (*LARGE.values(), {"add_out_norm": False}):
        config = xLSTMLargeConfig(
            embedding_dim=8,
            num_heads=2,
            num_blocks=1,
            vocab_size=3,
            **options,
        )
        theirs = large.xLSTMLarge(large.xLSTMLargeConfig(**config.to_dict()))
        shapes = {name: tuple(array.shape) for name, array in theirs.state_dict().items()}
        ours = xLSTMLarge(config).state_dict()
        assert {name: array.shape for name, array in ours.items()} == shapes
