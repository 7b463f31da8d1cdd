"""``eval`` of a folder, with a tokenizer made here, gives the bits that the other packages give."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import HuggingFaceTokenizer, save_pretrained
from numpy_xlstm.cli import main
from numpy_xlstm.training import default_text
from tests.models.build import large_config
from tests.parity.official import made, official, paper, torch, with_weights

TEXT = default_text()[:900]


@pytest.mark.parametrize("kind", ["xlstm", "transformers"])
def test_bits_of_a_folder(kind: str, transformers: Any, tmp_path: Path) -> None:
    tokenizer, folder = HuggingFaceTokenizer.learn(TEXT, 300), tmp_path / "folder"
    sizes: Any = {"vocab_size": tokenizer.size}
    config: Any = large_config(embedding_dim=64, chunk_size=16, **sizes)
    if kind == "xlstm":
        config = paper(context_length=1000, **sizes)
    ours = made(config, np.float32)
    save_pretrained(ours, folder, format=kind, tokenizer=tokenizer)
    ids = torch.tensor(transformers.AutoTokenizer.from_pretrained(folder).encode(TEXT))
    with torch.no_grad():
        if kind == "xlstm":
            logits = with_weights(official(config), ours)(ids[None])
        else:
            logits = transformers.xLSTMForCausalLM.from_pretrained(folder)(ids[None]).logits
    nats = torch.nn.functional.cross_entropy(logits[0, :-1].double(), ids[1:])
    (tmp_path / "text").write_text(TEXT, "utf-8")
    words = ["--rows=1", "--json", str(tmp_path / "results.json")]
    assert main(["eval", str(folder), str(tmp_path / "text"), *words]) == 0
    results = json.loads((tmp_path / "results.json").read_text("utf-8"))
    assert results["tokens"] == len(ids) < len(TEXT) / 1.3
    assert results["bits_per_token"] == pytest.approx(float(nats) / np.log(2), rel=1e-5)
    assert results["perplexity"] == pytest.approx(float(nats.exp()), rel=1e-4)
