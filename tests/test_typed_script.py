"""The script that type checkers read also runs."""

from pathlib import Path

import numpy as np

from tests import typed_script


def test_the_typed_script_runs(tmp_path: Path) -> None:
    typed_script.layers(np.random.default_rng(0))
    typed_script.models(tmp_path, np.random.default_rng(0))
