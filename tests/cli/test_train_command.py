import re
import signal

import pytest

from numpy_xlstm.cli import display, main
from numpy_xlstm.training import bigram_entropy, default_text, loop, split_text, unigram_entropy
from tests.cli.shared import interrupting

TEXT = default_text()[:20_000]
SIZES = {"hidden-size": 16, "embedding-size": 8, "batch-size": 4, "window": 16, "sample-length": 30}
SMALL = [f"--{name}={value}" for name, value in SIZES.items()]


def train(text_file: str, *options: str) -> int:
    return main(["train", text_file, *SMALL, *options])


def table(out: str) -> dict[str, float]:
    rows = re.findall(r"^. (\w[\w ]*?) +. +([\d.]+) . bits/char .$", out, re.MULTILINE)
    return {name: float(value) for name, value in rows}


@pytest.mark.parametrize("cell", ["lstm", "slstm", "mlstm"])
def test_a_short_training(cell: str, text_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert train(text_file, "--cell", cell, "--steps", "5", "--prompt", "The") == 0
    out, err = capsys.readouterr()
    held_out = split_text(TEXT, window=16).validation
    rows = table(out)
    assert rows["unigram entropy"] == round(unigram_entropy(held_out), 3)
    assert rows["bigram entropy"] == round(bigram_entropy(held_out), 3)
    assert 3 < rows[f"{cell} model"] < 8
    assert re.search(r"steps +. +5 .*\n. tokens seen +. +320 ", out)
    assert re.search(r"speed +. +[\d,]+ . tokens/s", out)
    assert re.search(r"\n\nsample:\nThe(.|\n){30}\n$", out)
    assert err.startswith(f"{cell}, ")
    assert "\ncan be converted to safetensors, onnx\n" in err
    assert "18,000 characters for training, 2,000 held out" in err
    assert re.search(
        r"^step 5  100%  0:00 left  [\d.]+ bits/char  [\d,]+ tokens/s  loss ", err, re.M
    )
    assert "training for 5 steps, then results and a sample; the model is not saved" in err
    assert "\x1b" not in out + err
    assert display._clock(89.6) == "1:30"


def test_the_default_text_learns(capsys: pytest.CaptureFixture[str]) -> None:
    options = "--cell lstm --hidden-size 64 --embedding-size 32 --batch-size 16 --window 32"
    assert main(["train", *options.split(), "--steps", "80", "--lr", "0.02"]) == 0
    rows = table(capsys.readouterr().out)
    assert rows["lstm model"] < rows["unigram entropy"]


def test_a_seed_repeats_a_run(text_file: str, capsys: pytest.CaptureFixture[str]) -> None:
    def results(*options: str) -> tuple[dict[str, float], str]:
        assert train(text_file, "--steps", "3", *options) == 0
        out = capsys.readouterr().out
        return table(out), out.partition("sample:")[2]

    assert results("--seed", "5") == results("--seed", "5")
    assert results("--seed", "5") != results("--seed", "6")


@pytest.mark.parametrize("size", ["15", "20"])
def test_the_default_number_of_heads_divides_any_size(
    size: str, text_file: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for cell in ("slstm", "mlstm"):
        assert train(text_file, "--steps", "1", "--hidden-size", size, "--cell", cell) == 0
        assert capsys.readouterr().err.startswith(f"{cell}, ")


@pytest.mark.parametrize("terminal", [False, True])
def test_validation_while_training(
    terminal: bool,
    text_file: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
    assert train(text_file, "--steps", "5", "--validate-every", "2") == 0
    shown = r"step (\d)  validation \d\.\d{3} bits/char in \d\.\d s\n"
    steps = re.findall(shown, re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", capsys.readouterr().err))
    assert steps == ["2", "4", "5"]


@pytest.mark.parametrize("best_comes_last", [False, True])
def test_the_best_validation_is_shown_if_it_is_not_the_last(
    best_comes_last: bool,
    text_file: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bits = iter([3.5, 2.25, 1.5 if best_comes_last else 2.75])
    module = "numpy_xlstm.training.loop.validation_bits"
    monkeypatch.setattr(module, lambda *args, **options: next(bits))
    assert train(text_file, "--steps", "5", "--validate-every", "2") == 0
    shown = re.findall(r"slstm model(.*?) +│ +(\d\.\d+) │", capsys.readouterr().out)
    expected = [("", "1.500")] if best_comes_last else [("", "2.750"), (", step 4", "2.250")]
    assert shown == expected


def test_ctrl_c_ends_the_training_and_still_shows_the_results(
    text_file: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "train_step", interrupting(3))
    before = signal.getsignal(signal.SIGINT)
    assert train(text_file, "--cell", "slstm", "--steps", "500") == 130
    out = capsys.readouterr().out
    assert re.search(r"steps +. +3 .*\n. tokens seen +. +192 ", out)
    assert 3 < table(out)["slstm model"] < 8
    assert "sample:" in out
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_twice_leaves_at_once(
    text_file: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "train_step", interrupting(3, times=2))
    assert train(text_file, "--steps", "500") == 130
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("numpy-xlstm: interrupted\n")
