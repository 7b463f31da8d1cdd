"""The JavaScript of the page runs, and generates the ids of the model."""

import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import (
    ByteTokenizer,
    CharacterTokenizer,
    HuggingFaceTokenizer,
    LanguageModel,
    generate,
    save_pretrained,
    sLSTM,
)
from numpy_xlstm.generation import Tokenizer
from numpy_xlstm.training import default_text
from tests.models.build import build
from tests.site.browser import CHROMIUM, opened, served

PACKAGES = "onnxruntime-web@1", "@huggingface/tokenizers@0.2"
PAGE = Path(__file__).parents[2] / "docs/run-anywhere.md"


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the packages of the page are installed."""
    folder = tmp_path_factory.mktemp("node")
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("node and npm are not installed")
    words = [npm, "install", "--prefix", str(folder), "--no-audit", *PACKAGES]
    try:
        found = subprocess.run(words, capture_output=True, text=True, timeout=300, cwd=folder)
    except subprocess.TimeoutExpired:
        pytest.skip("npm cannot install them within five minutes")
    if found.returncode:
        pytest.skip(f"npm cannot install the packages: {found.stderr[-200:]}")
    return folder


def node(package: Path, *words: str) -> tuple[int, str, str]:
    """Run ``node.mjs`` of the page, and return its exit code, output and errors."""
    command = ["node", "node.mjs", "model.onnx", *words]
    found = subprocess.run(command, capture_output=True, cwd=package, timeout=120)
    return found.returncode, found.stdout.decode()[:-1], found.stderr.decode()[:-1]


def write_package(package: Path, model: Any, tokenizer: Tokenizer) -> None:
    """Write the listings of the page, a model and the tokenizer in its metadata."""
    onnx = pytest.importorskip("onnx", reason="onnx (the extra 'cli') is not installed")
    listings = re.findall(r"^```(?:js|html)\n(.+?)^```$", PAGE.read_text("utf-8"), re.M | re.S)
    for file, listing in zip(("generate.mjs", "node.mjs", "index.html"), listings, strict=True):
        (package / file).write_text(listing, "utf-8")
    save_pretrained(model, package / "model.onnx", tokenizer=tokenizer)
    (entry,) = onnx.load(package / "model.onnx").metadata_props
    (package / entry.key).write_text(entry.value, "utf-8")


@pytest.mark.long
@pytest.mark.parametrize("name", ["mixed", "large-single"])
def test_javascript(name: str, package: Path) -> None:
    model = build(name, dtype=np.float32)
    symbols = CharacterTokenizer("".join(map(chr, range(97, 97 + model.vocab_size - 1))))
    write_package(package, model, symbols)
    expected = generate(model, np.array([[1, 2, 3]]), max_new_tokens=37)[0]
    assert node(package, "1,2,3", "40") == (0, ",".join(map(str, expected)), "")
    text = symbols.decode(expected)
    assert node(package, "bcd", "40", "tokenizer.json") == (0, text, "")
    wrong = "prompt: expected characters that occur in the training text; got é 😀"
    assert node(package, "bécd😀", "40", "tokenizer.json") == (2, "", wrong)
    if CHROMIUM is None or find_spec("playwright") is None:
        pytest.skip("Chromium or Playwright is not installed")
    with served(package) as site, opened() as browser:
        window = browser.new_page()
        window.goto(site)
        for prompt, shown in (("bcd", text), ("bécd😀", wrong)):
            window.fill("input", prompt)
            window.click("button")
            found = "text => document.querySelector('pre').textContent === text"
            window.wait_for_function(found, arg=shown)


@pytest.mark.long
@pytest.mark.parametrize("kind", ["bytes", "bpe"])
def test_javascript_reads_and_writes_any_text(kind: str, package: Path) -> None:
    tokenizer: Tokenizer = ByteTokenizer()
    if kind == "bpe":
        tokenizer = HuggingFaceTokenizer.learn(default_text()[:20_000], 400)
    rng = np.random.default_rng(0)
    layer = sLSTM(8, 16, num_heads=2, dtype=np.float32, rng=rng)
    model = LanguageModel(tokenizer.size, 8, layer, rng=rng)
    write_package(package, model, tokenizer)
    prompt = "The  null , don't .\n\tcafé \u2028😀<unk>"
    ids = tokenizer.encode(prompt)
    text = tokenizer.decode(generate(model, ids[None], max_new_tokens=9)[0])
    assert text.startswith(prompt)
    assert node(package, prompt, str(len(ids) + 9), "tokenizer.json") == (0, text, "")
