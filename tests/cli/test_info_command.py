import re
from pathlib import Path

import numpy as np
import pytest

from numpy_xlstm import sLSTM
from numpy_xlstm.checkpoints import save_checkpoint
from numpy_xlstm.cli import main
from numpy_xlstm.generation import CharacterTokenizer
from numpy_xlstm.models import LanguageModel


def model() -> LanguageModel:
    return LanguageModel(1001, 4, sLSTM(4, 8, num_heads=2, dtype=np.float32))


def test_the_tree_and_the_facts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    training = {"step": 1200, "tokens": 10**6, "validations": [[600, 3.0], [1200, 2.25]]}
    save_checkpoint(
        tmp_path / "a.npz", model(), tokenizer=CharacterTokenizer.of("ab"), training=training
    )
    assert main(["info", str(tmp_path / "a.npz")]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "LanguageModel  13,301",
        "├─ embedding  4,004",
        "│  └─ weight  (1001, 4) float32  4,004",
        "├─ cell  288",
        "│  ├─ W  (32, 4) float32  128",
        "│  ├─ R  (2, 16, 4) float32  128",
        "│  └─ b  (32,) float32  32",
        "└─ head  9,009",
        "   ├─ weight  (1001, 8) float32  8,008",
        "   └─ bias  (1001,) float32  1,001",
        "dtype      float32",
        "parameters 13,301",
        "step       1,200",
        "tokens     1,000,000",
        "validation 2.250 bits/char after step 1,200",
        "tokenizer  CharacterTokenizer, 3 ids",
    ]


def test_a_model_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_checkpoint(tmp_path / "a.safetensors", model())
    assert main(["info", str(tmp_path / "a.safetensors")]) == 0
    facts = capsys.readouterr().out.splitlines()[-2:]
    assert facts == ["dtype      float32", "parameters 13,301"]


def test_bad_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(tmp_path / "a.npz")]) == 2
    err = capsys.readouterr().err
    assert re.search("error: checkpoint: expected a file; .*a.npz does not exist", err)
    (tmp_path / "b.npz").mkdir()
    assert main(["info", str(tmp_path / "b.npz")]) == 2
    assert re.search("checkpoint: expected a file; .*b.npz is a dir", capsys.readouterr().err)
    (tmp_path / "a.npz").write_text("no checkpoint")
    assert main(["info", str(tmp_path / "a.npz")]) == 2
    assert "a.npz: expected a whole .npz file" in capsys.readouterr().err
