"""``train --from``, and the directory of a run where a checkpoint is read."""

from pathlib import Path

import pytest

from numpy_xlstm import SpecialTokens, open_pretrained, xLSTMLarge, xLSTMLargeConfig
from numpy_xlstm.checkpoints import save_pretrained
from numpy_xlstm.cli import main
from numpy_xlstm.generation import ByteTokenizer
from tests.models.build import lm_config, make

pytest.importorskip("rich", reason="rich (the extra 'cli') is not installed")

SMALL = ["--batch-size=2", "--window=8", "--steps=2", "--sample-length=5"]


@pytest.fixture
def text() -> str:
    Path("mine.txt").write_text("abcabcaabbcc " * 30, "utf-8")
    return "mine.txt"


def tokenizer_file(folder: Path) -> None:
    tokenizers = pytest.importorskip("tokenizers", reason="the extra 'cli' is not installed")
    vocab = {letter: n for n, letter in enumerate("abc ")}
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocab, []))
    made.decoder = tokenizers.decoders.Fuse()
    made.save(str(folder / "tokenizer.json"))


@pytest.mark.parametrize("kind", ["transformers", "xlstm", "safetensors"])
def test_a_model_of_each_package(kind: str, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    model = make(lm_config(vocab_size=300))
    if kind == "xlstm":
        pytest.importorskip("yaml")
    if kind == "transformers":
        model = xLSTMLarge(xLSTMLargeConfig(16, num_heads=2, num_blocks=1, vocab_size=9))
        model.special_tokens = SpecialTokens(bos=8)
    place = "given.safetensors" if kind == "safetensors" else "given"
    tokenizer = ByteTokenizer() if kind == "safetensors" else None
    save_pretrained(model, place, format=kind, tokenizer=tokenizer)
    if kind != "safetensors":
        tokenizer_file(Path(place))
    same = ["--tokenizer", f"{place}/tokenizer.json"] if kind != "safetensors" else []
    assert main(["train", "--from", place, text, *same, *SMALL, "--out", "run"]) == 0
    out, err = capsys.readouterr()
    assert "fine-tuned model" in out
    assert f"{type(model).__name__} of {place}, {model.num_parameters:,} parameters" in err
    opened = open_pretrained("run/checkpoint.safetensors")
    assert opened.training["optimizer"]["betas"] == [0.9, 0.95]
    assert type(opened.load_tokenizer()) is type(tokenizer) or kind != "safetensors"
    tuned = opened.load()
    assert tuned.dtype == model.dtype
    assert tuned.special_tokens == model.special_tokens
    for name, array in tuned.params.items():
        assert 0 < abs(array - model.params[name]).max() < 2e-3  # steps of 3e-4 from the start
    assert main(["train", "--resume", "run", "--steps=3"]) == 0
    assert main(["generate", "run", "--prompt", "ab", "--max-new-tokens=3"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("ab")
    assert main(["info", "run"]) == 0
    assert "step       " in capsys.readouterr().out
    assert main(["train", "--from", "run", text, *SMALL]) == 0


def test_a_run_where_a_checkpoint_is_read(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = ["--hidden-size=4", "--embedding-size=3", "--validate-every=1"]
    assert main(["train", text, *sizes, *SMALL, "--out", "run"]) == 0
    capsys.readouterr()
    results = []
    for place in ("run", "run/best.safetensors"):
        assert main(["generate", place, "--prompt=ab"]) == 0
        assert main(["info", place]) == 0
        results.append(capsys.readouterr().out)
    assert results[0] == results[1]
    assert main(["convert", "run", "model.safetensors"]) == 0
    assert main(["train", "--from", "run", text, *SMALL, "--out", "tuned"]) == 0
    assert open_pretrained("tuned/checkpoint.safetensors").training["optimizer"]["betas"] == [
        0.9,
        0.999,
    ]
