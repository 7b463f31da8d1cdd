"""An optimiser is a file and an entry: training, checkpoints and runs need nothing else."""

import inspect
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import numpy_xlstm
from numpy_xlstm.checkpoints import read_arrays, write_arrays
from numpy_xlstm.errors import CheckpointError
from numpy_xlstm.numerics import Array
from numpy_xlstm.training import OPTIMIZERS, Run, TrainingState
from tests.training.build import go_on, small_model

IMPORTS = """
from collections.abc import Mapping
from typing import Any
import numpy as np
from numpy_xlstm.numerics import Array

"""


class Momentum:
    """Gradient descent with momentum."""

    def __init__(self, params: Mapping[str, Array], *, lr: float, mu: float = 0.9) -> None:
        self.params, self.lr, self.mu, self.t = params, lr, mu, 0
        self.v = {name: np.zeros_like(array) for name, array in params.items()}

    @property
    def options(self) -> dict[str, Any]:
        return {"lr": self.lr, "mu": self.mu}

    def step(
        self, grads: Mapping[str, Array], *, lr: float | None = None, scale: float = 1.0
    ) -> None:
        for name, v in self.v.items():
            v[...] = self.mu * v + scale * grads[name]
            self.params[name][...] -= (self.lr if lr is None else lr) * v
        self.t += 1

    def state_dict(self) -> dict[str, Array]:
        return {"t": np.array(self.t), **self.v}

    def load_state_dict(self, arrays: Mapping[str, Array]) -> None:
        self.t = int(arrays["t"])
        for name, v in self.v.items():
            v[...] = arrays[name]


def start() -> TrainingState:
    model = small_model()
    return TrainingState(model, Momentum(model.params, lr=0.1, mu=0.8), np.random.default_rng(0))


def resume_in_between(folder: str) -> list[float]:
    """Train, resume after 5 of 12 steps, and return all losses."""
    state = start()
    losses = go_on(state, 5)
    run = Run.begin(folder, state)
    del run, state
    resumed = Run.resume(folder).state
    assert resumed.optimizer.options == {"lr": 0.1, "mu": 0.8}
    return losses + go_on(resumed, 12)


def test_an_optimiser_is_added_in_two_files(tmp_path: Path) -> None:
    """In a copy of the package, it trains and resumes; CONTRIBUTING names the two files."""
    root = Path(numpy_xlstm.__file__).parents[1]
    shutil.copytree(
        root / "numpy_xlstm", tmp_path / "numpy_xlstm", ignore=lambda *_: {"__pycache__"}
    )
    shutil.copytree(root / "tests" / "training", tmp_path / "tests" / "training")
    (tmp_path / "tests" / "__init__.py").touch()
    own, registry = (
        tmp_path / "numpy_xlstm" / "training" / name for name in ("momentum.py", "state.py")
    )
    own.write_text(IMPORTS + inspect.getsource(Momentum), "utf-8")
    entry = (
        'from numpy_xlstm.training.momentum import Momentum\nOPTIMIZERS["Momentum"] = Momentum\n'
    )
    registry.write_text(registry.read_text("utf-8") + entry, "utf-8")
    program = (
        "from numpy_xlstm.training.momentum import Momentum\n"
        "from tests.training import test_optimizers\n"
        "test_optimizers.Momentum = Momentum\n"
        f"print(*test_optimizers.resume_in_between({str(tmp_path / 'run')!r}))"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path), "NUMPY_XLSTM_COMPILED": "0"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    expected = go_on(start(), 12)
    assert expected[-1] < expected[0]
    np.testing.assert_allclose([*map(float, done.stdout.split())], expected, rtol=1e-12)
    (line,) = re.findall("An optimiser .*", (root / "CONTRIBUTING.md").read_text("utf-8"))
    assert re.findall(r"`numpy_xlstm/training/(\w+\.py)`", line) == ["adamw.py", "state.py"]


def test_an_unknown_optimiser_in_a_checkpoint(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    unknown = r"optimizer\.kind: .* 'AdamW'.*; got 'Mom"
    with pytest.raises(CheckpointError, match=unknown):
        start().save(tmp_path / "a.safetensors")
    assert not (tmp_path / "a.safetensors").exists()
    with monkeypatch.context() as known:
        known.setitem(OPTIMIZERS, "Momentum", Momentum)
        start().save(tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError, match=unknown):
        TrainingState.load(tmp_path / "a.safetensors")


@pytest.mark.parametrize("name", ["kind", "lr", "betas", "eps", "weight_decay", "decays"])
def test_an_option_that_a_checkpoint_lacks_is_not_guessed(name: str, tmp_path: Path) -> None:
    path, state = tmp_path / "a.safetensors", start()
    state.optimizer = OPTIMIZERS["AdamW"](state.model.params, lr=0.5)
    state.save(path)
    arrays, metadata = read_arrays(path)
    del metadata["training"]["optimizer"][name]
    write_arrays(path, arrays, metadata)
    refused = r"optimizer(\.kind)?: expected .*('AdamW'.*|decays); got"
    with pytest.raises(CheckpointError, match=refused):
        TrainingState.load(path)
