from pathlib import Path

import numpy as np
import pytest

from numpy_xlstm import SpecialTokens, sLSTM, xLSTMLarge, xLSTMLargeConfig
from numpy_xlstm.checkpoints import save_pretrained
from numpy_xlstm.cli import main
from numpy_xlstm.generation import CharacterTokenizer
from numpy_xlstm.models import LanguageModel
from tests.checkpoints.build import split


def model() -> LanguageModel:
    return LanguageModel(1001, 4, sLSTM(4, 8, num_heads=2, dtype=np.float32))


def test_the_tree_and_the_facts(capsys: pytest.CaptureFixture[str]) -> None:
    training = {"step": 1200, "tokens": 10**6, "validations": [[600, 3.0], [1200, 2.25]]}
    tokenizer = CharacterTokenizer.of("ab")
    save_pretrained(model(), "a.safetensors", tokenizer=tokenizer, training=training)
    assert main(["info", "a.safetensors"]) == 0
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
        "format     safetensors",
        f"files      1, {Path('a.safetensors').stat().st_size:,} bytes",
        "dtype      float32",
        "parameters 13,301",
        "memory     53,204 bytes",
        "step       1,200",
        "tokens     1,000,000",
        "validation 2.250 bits/char after step 1,200",
        "tokenizer  CharacterTokenizer, 3 ids",
        "convert to safetensors, onnx",
    ]


def test_a_folder_of_transformers(capsys: pytest.CaptureFixture[str]) -> None:
    config = xLSTMLargeConfig(16, num_heads=2, num_blocks=2, vocab_size=9)
    large = xLSTMLarge(config, dtype=np.float32)
    large.special_tokens = SpecialTokens(1, (2, 3), None, insert_bos=True)
    folder = Path("a")
    save_pretrained(large, folder, format="transformers", dtype="float16")
    split(folder, 2)
    files = [*folder.glob("*.safetensors")]
    assert len(files) == 2
    (folder / "tokenizer.json").write_text("{}")
    assert main(["info", str(folder)]) == 2
    assert "tokenizer: expected the content of a tokenizer.json" in capsys.readouterr().err
    (folder / "tokenizer.json").unlink()
    assert main(["info", str(folder)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"xLSTMLarge  {large.num_parameters:,}"
    matrices = sum(array.size for array in large.params.values() if array.ndim == 2)
    stored = 4 * large.num_parameters - 2 * matrices
    assert lines[-7:] == [
        "format     transformers",
        f"files      {len(files)}, {sum(file.stat().st_size for file in files):,} bytes",
        "dtype      float16",
        f"parameters {large.num_parameters:,}",
        f"memory     {4 * large.num_parameters:,} bytes; {stored:,} with --weights stored",
        "special    BOS 1; EOS 2, 3; a text begins with BOS",
        "convert to safetensors, onnx, transformers, xlstm-large",
    ]
    assert "└─ lm_head  144" in lines
