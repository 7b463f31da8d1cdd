import argparse
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import LSTM, SpecialTokens, xLSTMLarge, xLSTMLargeConfig
from numpy_xlstm.checkpoints import save_pretrained
from numpy_xlstm.cli import generate as command
from numpy_xlstm.cli import main
from numpy_xlstm.generation import ByteTokenizer, CharacterTokenizer, generate, generate_text
from numpy_xlstm.layers.embedding import IndexArray
from numpy_xlstm.models import LanguageModel
from numpy_xlstm.numerics import Array
from tests.models.build import lm_config, make

LETTERS = CharacterTokenizer("abcd")
Load = Callable[[Any], None]


def lstm() -> LanguageModel:
    rng = np.random.default_rng(0)
    return LanguageModel(LETTERS.size, 8, LSTM(8, 16, rng=rng), rng=rng)


def expected(seed: int = 0, **options: Any) -> str:
    options = {"max_new_tokens": 500, "do_sample": True, "temperature": 0.8, **options}
    return generate_text(lstm(), LETTERS, "ab", **options, rng=np.random.default_rng(seed))


def run(*argv: str) -> int:
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return command.run(parser.parse_args(argv))


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch) -> Load:
    """Make the command load a given model of bytes."""

    def set_model(model: Any) -> None:
        outline = LanguageModel(256, 4, LSTM(4, 8))
        found = SimpleNamespace(model=outline, load=lambda **options: model)
        found.load_tokenizer = ByteTokenizer
        monkeypatch.setattr(
            "numpy_xlstm.cli.language_models.open_pretrained", lambda *a, **o: found
        )

    return set_model


@pytest.fixture
def checkpoint() -> str:
    save_pretrained(lstm(), "model.safetensors", tokenizer=LETTERS)
    return "model.safetensors"


@pytest.mark.parametrize(
    ("argv", "options"),
    [
        ("", {}),
        ("--max-new-tokens 30 --seed 3", {"max_new_tokens": 30, "seed": 3}),
        ("--max-new-tokens 0", {"max_new_tokens": 0}),
        ("--temperature 0", {"temperature": 0}),
        ("--temperature 2 --top-k 2 --top-p 0.5", {"temperature": 2, "top_k": 2, "top_p": 0.5}),
        ("--repetition-penalty 1.5", {"repetition_penalty": 1.5}),
        ("--stop dd --stop ca", {"stop": ("dd", "ca")}),
    ],
)
def test_the_prompt_and_what_the_model_makes_of_it(
    argv: str, options: dict[str, Any], checkpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(checkpoint, "--prompt", "ab", *argv.split()) == 0
    assert capsys.readouterr() == (f"ab{expected(**options)}\n", "")


def test_samples_with_consecutive_seeds(
    checkpoint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--prompt", "ab", "--max-new-tokens", "9", "--seed", "5", "--num-samples", "3"]
    assert run(checkpoint, *words) == 0
    texts = [expected(seed, max_new_tokens=9) for seed in (5, 6, 7)]
    shown = "".join(f"--- seed {5 + n} ---\nab{text}\n" for n, text in enumerate(texts))
    assert capsys.readouterr() == (shown, "")
    assert len({*texts}) == 3


def test_text_is_written_as_it_comes(load: Load, capsys: pytest.CaptureFixture[str]) -> None:
    seen = []

    def model(tokens: IndexArray, state: Any = None) -> tuple[Array, Any]:
        seen.append(capsys.readouterr().out)
        logits = np.full((1, 1, 256), -np.inf)
        logits[..., "é!".encode()[len(seen) - 1]] = 0
        return logits, None

    load(model)
    assert run("file", "--prompt", "ü", "--max-new-tokens", "3") == 0
    assert seen == ["ü", "", "é"]
    assert capsys.readouterr().out == "!\n"


def test_ctrl_c_ends_the_text(load: Load, capsys: pytest.CaptureFixture[str]) -> None:
    calls = []

    def model(tokens: IndexArray, state: Any = None) -> tuple[Array, Any]:
        calls.append(tokens)
        if len(calls) == 4:
            signal.raise_signal(signal.SIGINT)
        logits = np.full((1, 1, 256), -np.inf)
        logits[..., ord("x")] = 0
        return logits, None

    load(model)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job has none
    try:
        with pytest.raises(KeyboardInterrupt):
            run("file", "--prompt", "a", "--max-new-tokens", "9")
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr() == ("axxx\n", "")


def circle(eos: tuple[int, ...] = (), bos: int | None = None, insert: bool = False) -> xLSTMLarge:
    """Make a transformers model that generates 0, 1, … 6, 0, 1, … after any prompt."""
    config = xLSTMLargeConfig(16, num_heads=2, num_blocks=1, vocab_size=7)
    model = xLSTMLarge(config, rng=np.random.default_rng(0))
    embedding = np.random.default_rng(1).standard_normal((7, 16))
    for name, array in model.params.items():
        array[...] = 0
        if name == "embedding.weight":
            array[...] = embedding
        elif name == "lm_head.weight":
            array[...] = 5 * np.roll(embedding, 1, axis=0)
        elif name.endswith("norm.weight"):
            array[...] = 1
    model.special_tokens = SpecialTokens(bos, eos, None, insert)
    return model


@pytest.fixture(params=["transformers", "xlstm-large", "safetensors"])
def official(request: pytest.FixtureRequest) -> str:
    """Write a checkpoint of each format, with end tokens 5 and 6 if the format supports them."""
    kind = request.param
    if kind == "xlstm-large":
        pytest.importorskip("yaml")
    name = f"a.{kind}" if kind == "safetensors" else "a"
    save_pretrained(circle((5, 6), bos=2), name, format=kind)
    return name


def out_of(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    assert main(["generate", *argv]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    return out


def test_ids_give_ids(official: str, capsys: pytest.CaptureFixture[str]) -> None:
    greedy = ["--temperature", "0", "--max-new-tokens", "7"]
    known = Path(official, "config.yaml").exists()
    expected = "3,1,2,3,4,5,6,0,1\n" if known else "3,1,2,3,4,5\n"
    assert out_of(capsys, official, "--ids", "3,1", *greedy) == expected
    free = ["--eos-token-id", "none"]
    assert out_of(capsys, official, "--ids", "3,1", *greedy, *free) == "3,1,2,3,4,5,6,0,1\n"
    assert out_of(capsys, official, "--ids", "3,1", *greedy, "--eos-token-id", "4") == "3,1,2,3,4\n"
    begun = out_of(capsys, official, "--bos-token-id", "2", *greedy, "--eos-token-id", "5")
    assert begun == "2,3,4,5\n"
    without = [*greedy, *free, "--suppress-tokens", "0,2,3,4,5,6"]
    assert out_of(capsys, official, "--ids", "1", *without) == "1" + ",1" * 7 + "\n"


def test_the_models_of_the_first_paper(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("yaml")
    model: Any = make(lm_config())
    save_pretrained(model, "a", format="xlstm", layout="cuda")
    options = ["--ids", "1,4,0", "--max-new-tokens", "9", "--temperature", "0"]
    ids = generate(model, np.array([[1, 4, 0]]), max_new_tokens=9)[0]
    assert out_of(capsys, "a", *options) == ",".join(map(str, ids)) + "\n"


def test_without_a_prompt_it_begins_with_the_bos(
    official: str, capsys: pytest.CaptureFixture[str]
) -> None:
    greedy = ["--temperature", "0", "--max-new-tokens", "9"]
    if Path(official, "config.yaml").exists():
        assert main(["generate", official, *greedy]) == 2
    else:
        assert out_of(capsys, official, *greedy) == "2,3,4,5\n"


def test_text_with_the_tokenizer_of_the_folder(capsys: pytest.CaptureFixture[str]) -> None:
    tokenizers = pytest.importorskip("tokenizers")
    vocab = {letter: n for n, letter in enumerate("abcdefg")}
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocab, []))
    made.decoder = tokenizers.decoders.Fuse()
    greedy = ["--temperature", "0", "--max-new-tokens", "9"]
    expected = "gabcde\n"
    for insert in (False, True):
        folder = str(insert)
        save_pretrained(circle((5,), bos=2, insert=insert), folder, format="transformers")
        made.save("other.json")
        other = ["--tokenizer", "other.json"]
        assert out_of(capsys, folder, "--prompt", "g", *greedy, *other) == expected
        made.save(f"{folder}/tokenizer.json")
        assert out_of(capsys, folder, "--prompt", "g", *greedy) == expected
        assert out_of(capsys, folder, "--ids", "6", *greedy) == "6,0,1,2,3,4,5\n"
    begun = out_of(capsys, "True", *greedy)
    assert begun == "de\n"
