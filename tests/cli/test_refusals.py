"""Commands that are refused: one line of error each, before a model is read, and no file changed.

``refusals.txt`` lists the commands, each with its message; "..." stands for any text.
"""

import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from numpy_xlstm import (
    LSTM,
    ByteTokenizer,
    CharacterTokenizer,
    LanguageModel,
    SpecialTokens,
    mLSTM,
    save_pretrained,
    xLSTMLarge,
    xLSTMLargeConfig,
)
from numpy_xlstm.checkpoints import Pretrained
from numpy_xlstm.cli import main
from numpy_xlstm.training import default_text
from tests.cli.shared import error
from tests.cli.test_gradcheck_own import SOURCE

pytest.importorskip("rich", reason="rich (the extra 'cli') is not installed")
pytest.importorskip("yaml", reason="PyYAML (the extra 'cli') is not installed")

LARGE = {"embedding_dim": 8, "num_heads": 2, "num_blocks": 1, "qk_dim_factor": 1.0}
FILES: dict[str, bytes] = {
    "text.txt": default_text()[:20_000].encode(),
    "empty.txt": b"",
    "binary.txt": b"a\0b",
    "latin.txt": b"\xff\xfe",
    "short.txt": b"short",
    "seed": b"version https://git-lfs.github.com/spec/v1",
    "full/note": b"mine",
    "mine/cells.py": SOURCE.encode(),
    "large.json": json.dumps(LARGE).encode(),
    "vocabulary.json": json.dumps(LARGE | {"vocab_size": 9}).encode(),
    "blocks.json": json.dumps(LARGE | {"blocks": 9}).encode(),
    "list.json": b"[1]",
    "hidden/.text": b"a" * 500,
    "mixed/a.txt": b"a" * 500,
    "mixed/b.png": b"\x89PNG\0",
    "cut.json": b"{",
    "empty/result.json": b"{}",
    "cut/result.json": b"[1",
    "long.json": json.dumps(LARGE | {"num_blocks": 10**6}).encode(),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a folder with all files that the commands name."""
    folder = tmp_path_factory.mktemp("refusals")
    for name, content in FILES.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
    large = xLSTMLarge(xLSTMLargeConfig(16, num_heads=2, num_blocks=1, vocab_size=9))
    large.special_tokens = SpecialTokens(eos=(5, 6))
    save_pretrained(large, folder / "large", format="transformers")
    letters, cell = CharacterTokenizer("abcd"), LSTM(4, 8)
    save_pretrained(LanguageModel(5, 4, cell), folder / "letters.safetensors", tokenizer=letters)
    small = LanguageModel(4, 3, mLSTM(3, 4))
    save_pretrained(small, folder / "four.safetensors", tokenizer=ByteTokenizer())
    save_pretrained(mLSTM(3, 4), folder / "mlstm.safetensors")
    whole = (folder / "letters.safetensors").read_bytes()
    (folder / "bad.safetensors").write_bytes(whole[:-9])
    sizes = ["--hidden-size=4", "--embedding-size=3", "--batch-size=2", "--window=8", "--steps=3"]
    text, out = str(folder / "text.txt"), str(folder / "run")
    assert main(["train", text, *sizes, "--sample-length=0", "--out", out]) == 0
    return folder


def rows() -> list[tuple[str, str]]:
    lines = Path(__file__).with_name("refusals.txt").read_text("utf-8").splitlines()
    lines = [line for line in lines if line and line[0] != "#"]
    return [
        (command, message.strip()) for command, message in zip(lines[::2], lines[1::2], strict=True)
    ]


def content(folder: Path) -> dict[str, bytes | None]:
    """Return the content of all files that are no code, and None for folders."""
    paths = (path for path in folder.rglob("*") if "__pycache__" not in path.parts)
    return {str(path): path.read_bytes() if path.is_file() else None for path in paths}


@pytest.mark.parametrize(("command", "message"), rows(), ids=lambda text: text[:60])
def test_refused(
    command: str,
    message: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", sys.path.copy())
    if "--resume" not in command.split():
        monkeypatch.setattr(Pretrained, "load", None)
    before = content(folder)
    capsys.readouterr()
    assert main(shlex.split(command.replace("LONG", "a" * 300).replace("BYTE", "\udcff"))) == 2
    said = error(capsys)
    assert re.fullmatch(re.escape(message).replace(r"\.\.\.", ".*"), said), said
    assert content(folder) == before
