"""The JavaScript of the page runs, and generates the ids of the model."""

import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from numpy_xlstm import CharacterTokenizer, generate, save_pretrained
from numpy_xlstm.checkpoints.files import as_library_json
from tests.models.build import build
from tests.site.browser import CHROMIUM, opened, served

PAGE = Path(__file__).parents[2] / "docs/run-anywhere.md"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which ``onnxruntime-web`` is installed."""
    folder = tmp_path_factory.mktemp("node")
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("node and npm are not installed")
    words = [npm, "install", "--prefix", str(folder), "--no-audit", "onnxruntime-web@1"]
    try:
        found = subprocess.run(words, capture_output=True, text=True, timeout=300, cwd=folder)
    except subprocess.TimeoutExpired:
        pytest.skip("npm cannot install onnxruntime-web within five minutes")
    if found.returncode:
        pytest.skip(f"npm cannot install onnxruntime-web: {found.stderr[-200:]}")
    return folder


@pytest.mark.long
@pytest.mark.parametrize("name", ["mixed", "large-single"])
def test_javascript(name: str, package: Path) -> None:
    pytest.importorskip("onnx", reason="onnx (the extra 'cli') is not installed")
    listings = re.findall(r"^```(?:js|html)\n(.+?)^```$", PAGE.read_text("utf-8"), re.M | re.S)
    for file, listing in zip(("generate.mjs", "node.mjs", "index.html"), listings, strict=True):
        (package / file).write_text(listing, "utf-8")
    model = build(name, dtype=np.float32)
    save_pretrained(model, package / "model.onnx")
    words = ["node", "node.mjs", "model.onnx", "1,2,3", "40"]
    found = subprocess.run(words, capture_output=True, text=True, cwd=package, timeout=120)
    assert found.returncode == 0, found.stderr
    expected = generate(model, np.array([[1, 2, 3]]), max_new_tokens=37)[0]
    assert found.stdout.strip() == ",".join(map(str, expected))
    symbols = CharacterTokenizer("".join(map(chr, range(97, 97 + model.vocab_size - 1))))
    (package / "tokenizer.json").write_text(as_library_json(symbols), "utf-8")
    words = ["node", "node.mjs", "model.onnx", "bcd", "40", "tokenizer.json"]
    found = subprocess.run(words, capture_output=True, text=True, cwd=package, timeout=120)
    assert found.stdout.strip() == symbols.decode(expected)
    if CHROMIUM is None or find_spec("playwright") is None:
        pytest.skip("Chromium or Playwright is not installed")
    with served(package) as site, opened() as browser:
        window = browser.new_page()
        window.goto(site)
        window.fill("input", "bcd")
        window.click("button")
        window.wait_for_function("document.querySelector('pre').textContent")
        assert window.text_content("pre") == symbols.decode(expected)
