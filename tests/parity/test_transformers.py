"""transformers' xLSTM language model compared with xLSTMLarge.

transformers runs the blocks of the package ``xlstm`` if it is installed, and its own code if not.
Both are run here. They scale q and this package scales k, so that their C and n are √DK times
ours. They start from m = 0.
"""

import importlib.util
import sys
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import xLSTMLargeConfig
from tests.models.build import distance, draw_tokens, flat
from tests.parity import official
from tests.parity.official import torch
from tests.parity.states import from_official

T, V = 37, 11
SIZES: dict[str, Any] = {"vocab_size": V, "num_heads": 2, "chunk_size": 16}
# Their cache rounds the width of all queries up to 64, unlike their maps: use at least 64.
THEIRS: dict[str, Any] = {"hidden_size": 128, "num_hidden_layers": 2, "ffn_proj_factor": 1.5}
OURS: dict[str, Any] = {"embedding_dim": 128, "num_blocks": 2, "ffn_proj_factor": 1.5}


def _imported(name: str) -> Any:
    return pytest.importorskip(
        name, reason=f"{name} (the extra 'peers') is not installed", exc_type=ImportError
    )


@cache
def code(own: bool) -> Any:
    """Return the module with their model, in their own code or with the package ``xlstm``."""
    _imported("transformers").logging.set_verbosity_error()
    name = "transformers.models.xlstm.modeling_xlstm"
    if not own:
        return _imported(name)
    where = importlib.util.find_spec(name)
    assert where is not None
    assert where.origin is not None
    spec = importlib.util.spec_from_file_location(f"{name}_own", where.origin)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_imported("transformers.utils"), "is_xlstm_available", lambda: False)
        spec.loader.exec_module(module)
    return module


def pair(own: bool, bias: bool, mode: str) -> tuple[Any, Any]:
    """Make the same model twice; float64 works there, though it is not a documented choice."""
    options = {"use_bias": bias, "mode": mode, "norm_reduction_force_float32": False}
    config = _imported("transformers").xLSTMConfig(**SIZES, **THEIRS, **options)
    for name in ("autocast_kernel_dtype", "inference_state_dtype"):
        object.__setattr__(config, name, "float64")
    theirs = code(own).xLSTMForCausalLM(config).double().eval()
    theirs.backbone.out_norm.force_float32_reductions = False  # it is not told
    ours = official.made(xLSTMLargeConfig(**SIZES, **OURS, use_bias=bias))
    if bias:  # theirs has none there
        ours.params["backbone.out_norm.bias"][...] = 0
    for name, parameter in official.renamed(dict(theirs.named_parameters())).items():
        parameter.data.copy_(torch.tensor(ours.params[name]))
    return ours, theirs


def logits_of(own: bool, theirs: Any, out: Any) -> Any:
    cap = theirs.config.output_logit_soft_cap
    return code(own).soft_cap(theirs.lm_head(out.last_hidden_state), cap)


def gradients(own: bool, bias: bool) -> float:
    """Compare logits and gradients of all parameters, over two chunks."""
    ours, theirs = pair(own, bias, "train")
    tokens = draw_tokens(32, vocab=V)
    logits = logits_of(own, theirs, theirs.backbone(torch.tensor(tokens), use_cache=False))
    y, grads, expected = official.gradients(ours, theirs, logits, tokens)
    grads.pop("backbone.out_norm.bias", None)
    of_y = distance({"y": y}, {"y": logits.detach().numpy()})[0]
    return max(of_y, distance(grads, official.renamed(expected))[0])


def steps(own: bool, bias: bool) -> float:
    """Compare logits and states after a sequence shorter than a chunk, and after further steps."""
    ours, theirs = pair(own, bias, "inference")
    tokens, memory, now, worst = draw_tokens(T, vocab=V), None, official.from_zero(ours), 0.0
    with torch.no_grad():
        for part in (tokens[:, :16], *np.split(tokens[:, 16:], T - 16, axis=1)):
            out = theirs.backbone(torch.tensor(part), cache=memory, use_cache=True)
            memory, expected = out.cache, logits_of(own, theirs, out).numpy()
            logits, now = ours(part, now)
            their_state = from_official(ours, memory.rnn_state)
            apart = distance(flat(now, {"y": logits}), flat(their_state, {"y": expected}))[0]
            worst = max(worst, apart)
    return worst


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("own", [True, False], ids=["own", "xlstm"])
@pytest.mark.parametrize("compared", [gradients, steps])
def test_the_model_of_transformers(
    compared: Callable[[bool, bool], float], own: bool, bias: bool
) -> None:
    assert compared(own, bias) <= 1e-11
