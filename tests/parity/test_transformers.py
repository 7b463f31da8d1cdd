"""transformers' xLSTM language model compared with xLSTMLarge.

transformers runs the blocks of the package ``xlstm`` if it is installed, and its own code if not.
Both are run here. They scale q and this package scales k, so that their C and n are √DK times
ours. They start from m = 0.
"""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import mLSTMState, xLSTMLarge, xLSTMLargeConfig
from numpy_xlstm.numerics import Array
from tests.models.build import distance, flat
from tests.parity.states import from_official

B, T, V = 2, 37, 11
SIZES: dict[str, Any] = {"vocab_size": V, "num_heads": 2, "chunk_size": 16}
# Their cache rounds the width of all queries up to 64, unlike their maps: use at least 64.
THEIRS: dict[str, Any] = {"hidden_size": 128, "num_hidden_layers": 2, "ffn_proj_factor": 1.5}
OURS: dict[str, Any] = {"embedding_dim": 128, "num_blocks": 2, "ffn_proj_factor": 1.5}


def _imported(name: str) -> Any:
    return pytest.importorskip(
        name, reason=f"{name} (the extra 'peers') is not installed", exc_type=ImportError
    )


@contextmanager
def _without_xlstm() -> Iterator[None]:
    utils = _imported("transformers.utils")
    kept, utils.is_xlstm_available = utils.is_xlstm_available, lambda: False
    try:
        yield
    finally:
        utils.is_xlstm_available = kept


@cache
def code(own: bool) -> Any:
    """Return the module with their model, in their own code or with the package ``xlstm``."""
    _imported("transformers").logging.set_verbosity_error()
    name = "transformers.models.xlstm.modeling_xlstm"
    if not own:
        _imported("xlstm")
        return _imported(name)
    where = importlib.util.find_spec(name)
    assert where is not None
    assert where.origin is not None
    spec = importlib.util.spec_from_file_location(f"{name}_own", where.origin)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    with _without_xlstm():
        spec.loader.exec_module(module)
    return module


def drawn(name: str, shape: tuple[int, ...], rng: np.random.Generator) -> Array:
    """Draw numbers unlike initial values: different gates and norms, non-zero biases."""
    if len(shape) == 1:
        return rng.standard_normal(shape) * 0.3 + ("norm" in name and "weight" in name)
    return rng.standard_normal(shape) * (1 if "embedding" in name else 0.5 * shape[-1] ** -0.5)


def our_name(name: str) -> str:
    return name.replace("backbone.embeddings.", "embedding.")


def their_model(own: bool, bias: bool, mode: str) -> Any:
    """Make their model; float64 works, though not a documented choice of its configuration."""
    options = {"use_bias": bias, "mode": mode, "norm_reduction_force_float32": False}
    config = _imported("transformers").xLSTMConfig(**SIZES, **THEIRS, **options)
    for name in ("autocast_kernel_dtype", "inference_state_dtype"):
        object.__setattr__(config, name, "float64")
    model = code(own).xLSTMForCausalLM(config).double().eval()
    model.backbone.out_norm.force_float32_reductions = False  # it is not told
    return model


def pair(own: bool, bias: bool, mode: str) -> tuple[Any, Any]:
    """Make the same model twice, with our weights copied into theirs."""
    torch, rng = _imported("torch"), np.random.default_rng(4)
    ours = xLSTMLarge(xLSTMLargeConfig(**SIZES, **OURS, use_bias=bias), rng=rng)
    for name, array in ours.params.items():
        array[...] = drawn(name, array.shape, rng)
    if bias:  # theirs has none there
        ours.params["backbone.out_norm.bias"][...] = 0
    theirs = their_model(own, bias, mode)
    names = [name for name, _ in theirs.named_parameters()]
    theirs.load_state_dict({name: torch.tensor(ours.params[our_name(name)]) for name in names})
    return ours, theirs


def from_zero(ours: Any) -> Any:
    """Return the empty state with m = 0, from which theirs starts, for the same effect of ε."""
    return tuple(mLSTMState(s.C, s.n, np.zeros_like(s.m)) for s in ours.init_state(B))


def logits_of(own: bool, theirs: Any, tokens: Array, memory: Any) -> tuple[Any, Any]:
    """Return their logits, which are always float32, and the memory after them."""
    out = theirs.backbone(_imported("torch").tensor(tokens), cache=memory, use_cache=True)
    cap = theirs.config.output_logit_soft_cap
    return code(own).soft_cap(theirs.lm_head(out.last_hidden_state), cap), out.cache


def _tokens(steps: int) -> Array:
    return np.random.default_rng(2).integers(0, V, (B, steps))


def gradients(own: bool, bias: bool) -> float:
    """Logits and gradients of all parameters, over two chunks."""
    ours, theirs = pair(own, bias, "train")
    tokens, torch = _tokens(32), _imported("torch")
    out = theirs.backbone(torch.tensor(tokens), use_cache=False).last_hidden_state
    logits = code(own).soft_cap(theirs.lm_head(out), theirs.config.output_logit_soft_cap)
    dlogits = np.random.default_rng(3).standard_normal(logits.shape)
    (logits * torch.tensor(dlogits)).sum().backward()
    y, _, kept = ours.forward(tokens, from_zero(ours))
    _, _, grads = ours.backward(dlogits, kept)
    grads.pop("backbone.out_norm.bias", None)
    expected = {our_name(name): p.grad.numpy() for name, p in theirs.named_parameters()}
    of_y = distance({"y": y}, {"y": logits.detach().numpy()})[0]
    return max(of_y, distance(grads, expected)[0])


def steps(own: bool, bias: bool) -> float:
    """Compare logits and states after a sequence shorter than a chunk, and after further steps."""
    ours, theirs = pair(own, bias, "inference")
    tokens, memory, now, worst = _tokens(T), None, from_zero(ours), 0.0
    with _imported("torch").no_grad():
        for part in (tokens[:, :16], *np.split(tokens[:, 16:], T - 16, axis=1)):
            expected, memory = logits_of(own, theirs, part, memory)
            logits, now = ours(part, now)
            got = flat(now, {"y": logits})
            their_state = from_official(ours, memory.rnn_state)
            worst = max(worst, distance(got, flat(their_state, {"y": expected.numpy()}))[0])
    return worst


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("own", [True, False], ids=["own", "xlstm"])
@pytest.mark.parametrize("compared", [gradients, steps])
def test_the_model_of_transformers(
    compared: Callable[[bool, bool], float], own: bool, bias: bool
) -> None:
    assert compared(own, bias) <= 1e-11
