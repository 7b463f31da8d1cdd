"""xLSTM Large in one file of C++ answers traces and generates, from folders in every dtype."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from numpy_xlstm import conformance, from_pretrained, save_pretrained, xLSTMLarge, xLSTMLargeConfig
from numpy_xlstm.conformance.ports import from_command
from tests.ports.compiled import SOURCES, WARNINGS

SOURCE = SOURCES / "xlstm_large.cpp"
IDS = [3, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5]


def compiled(folder: Path, old: str = "", new: str = "") -> Path:
    """Compile the file, or a copy with one change; skip if there is no compiler."""
    compiler = next(filter(shutil.which, ("c++", "g++", "clang++")), None)
    if compiler is None:
        pytest.skip("no C++ compiler")
    text = SOURCE.read_text("utf-8")
    assert old == "" or text.count(old) == 1
    (folder / "xlstm_large.cpp").write_text(text.replace(old, new) if old else text, "utf-8")
    command = [compiler, "-std=c++17", "-O1", *WARNINGS.split(), "-o", "xlstm_large"]
    subprocess.run([*command, "xlstm_large.cpp"], cwd=folder, check=True)
    return folder / "xlstm_large"


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("cpp"))


def live(*, use_bias: bool = False) -> xLSTMLarge:
    """A model in which every parameter is random, and no state is forgotten within a prompt."""
    model = xLSTMLarge(xLSTMLargeConfig(32, 2, 2, 50, use_bias), dtype=np.float32, rng=0)
    rng = np.random.default_rng(1)
    for name, array in model.params.items():
        draws, centre = (
            rng.standard_normal(array.shape),
            float("norm" in name and "bias" not in name),
        )
        scale = 2.0 if "gate_preact.bias" in name else 0.3
        array[...] = centre + scale * draws
        if name == "backbone.out_norm.bias":
            array[...] = 0  # transformers has none
    return model


@pytest.fixture(params=["float32", "bfloat16", "float16", "biases"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    bias = request.param == "biases"
    dtype = "float32" if bias else request.param
    save_pretrained(live(use_bias=bias), tmp_path / "live", format="transformers", dtype=dtype)
    return tmp_path / "live"


def generated(program: Path, folder: Path, count: int) -> "subprocess.CompletedProcess[str]":
    words = [str(program), str(folder), "--generate", str(count), *map(str, IDS)]
    return subprocess.run(words, capture_output=True, text=True)


def report(program: Path, folder: Path) -> conformance.Report:
    cases = list(conformance.trace(from_pretrained(folder), np.array([IDS])))
    port = from_command(f"{program} {folder} {{in}} {{out}}", folder.parent, seconds=60)
    return conformance.verify(cases, port)


def test_it_answers_a_trace(program: Path, folder: Path) -> None:
    """At once and, where a case asks for it, token by token."""
    found = report(program, folder)
    assert found.passed, found
    assert len(found.verdicts) > 5


def test_it_generates(program: Path, folder: Path) -> None:
    """The prompt at once, and then one token after the other; here always all tokens."""
    model, ids = from_pretrained(folder), list(IDS)
    for _ in range(8):
        ids.append(int(model(np.array([ids]))[0][0, -1].argmax()))
    done = generated(program, folder, 8)
    assert done.stdout.split() == [str(n) for n in ids[len(IDS) :]]
    assert len(set(ids[len(IDS) :])) > 3


def test_it_reads_several_files(program: Path, tmp_path: Path) -> None:
    safetensors = pytest.importorskip("safetensors.numpy")
    folder, model = tmp_path / "live", live()
    save_pretrained(model, folder, format="transformers")
    arrays = safetensors.load_file(folder / "model.safetensors")
    names = sorted(arrays)
    for n in range(2):
        part = {name: arrays[name] for name in names[n::2]}
        safetensors.save_file(part, folder / f"model-{n + 1:05}-of-00002.safetensors")
    (folder / "model.safetensors").unlink()
    done = generated(program, folder, 1)
    assert int(done.stdout) == model(np.array([IDS]))[0][0, -1].argmax()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("std::sqrt((float)DK)", "std::sqrt((float)DV)"),
        pytest.param("std::max(A, i_pre)", "std::max(A, 0.0)", marks=pytest.mark.long),
        pytest.param("&states[b].C[j % NH * DK * DV]", "&states[b].C[0]", marks=pytest.mark.long),
        pytest.param("brain ? bits << 16", "brain ? bits << 15", marks=pytest.mark.long),
    ],
)
def test_a_wrong_copy_fails(old: str, new: str, tmp_path: Path) -> None:
    folder = tmp_path / "live"
    save_pretrained(live(), folder, format="transformers", dtype="bfloat16")
    found = report(compiled(tmp_path, old, new), folder)
    wrong = {verdict.case.id for verdict in found.verdicts if not verdict.passed}
    assert wrong >= {"block.0", "block.1", "model"}
    assert ("norm" in wrong) == ("bits" in old)


def test_it_refuses_files_that_it_cannot_read(program: Path, tmp_path: Path) -> None:
    folder = tmp_path / "live"
    save_pretrained(live(), folder, format="transformers", dtype="float64")
    done = generated(program, folder, 1)
    assert (done.returncode, done.stderr) == (2, "expected F32, BF16 or F16; got F64\n")
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    done = generated(program, folder, 1)
    assert (done.returncode, "expected more bytes" in done.stderr) == (2, True)
