"""Models of the package ``xlstm`` with the weights of this package, for comparisons."""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import mLSTMState, xLSTMLMModel, xLSTMLMModelConfig
from numpy_xlstm.models import LanguageModel, mLSTMBlockState
from numpy_xlstm.numerics import Array
from tests.models.build import B, assert_close, lm_config, make, mlstm_block, slstm_block

torch = pytest.importorskip("torch", reason="PyTorch (the extra 'peers') is not installed")
REASON = "xlstm (the extra 'peers') is not installed"
xlstm = pytest.importorskip("xlstm", reason=REASON, exc_type=ImportError)
cells = pytest.importorskip("xlstm.blocks.slstm.cell", reason=REASON, exc_type=ImportError)

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


def translated(config: Any) -> Any:
    """The official configuration with the same values."""
    values = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    values = {n: translated(v) if dataclasses.is_dataclass(v) else v for n, v in values.items()}
    return getattr(xlstm, type(config).__name__)(**values)


def with_weights(theirs: Any, ours: LanguageModel) -> Any:
    """Make their model in float64 with our weights, copied by name."""
    theirs = theirs.double()
    arrays = ours.state_dict()
    assert set(arrays) == set(theirs.state_dict())
    theirs.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()})
    return theirs


def paper_pair(name: str) -> tuple[xLSTMLMModel, Any]:
    ours = make(PAPER[name](), scale=0.4)
    assert isinstance(ours, xLSTMLMModel)
    return ours, with_weights(xlstm.xLSTMLMModel(translated(ours.config)), ours)


def assert_same_gradients(
    ours: LanguageModel, theirs: Any, tokens: Array, logits: Any, state: Any = None
) -> None:
    """Return the gradients of our model from a state, and of theirs through the graph."""
    dlogits = np.random.default_rng(3).standard_normal(tuple(logits.shape))
    (logits * torch.tensor(dlogits)).sum().backward()
    found, _, cache = ours.forward(tokens, state)
    assert_close({"logits": found}, {"logits": logits.detach().numpy()}, LOGITS)
    _, _, grads = ours.backward(dlogits, cache)
    expected = {name: p.grad.numpy() for name, p in theirs.named_parameters()}
    assert_close(grads, expected, GRADIENTS)


def from_zero(ours: LanguageModel) -> Any:
    """Return the empty state with m = 0 in mLSTM parts, from which the official steps start."""

    def zero(memory: mLSTMState) -> mLSTMState:
        assert memory.m is not None
        return memory._replace(m=np.zeros_like(memory.m))

    def start(part: Any) -> Any:
        if isinstance(part, mLSTMBlockState):
            return part._replace(mlstm=zero(part.mlstm))
        return zero(part) if isinstance(part, mLSTMState) else part

    return tuple(start(part) for part in ours.init_state(B))
