"""The sLSTM and the mLSTM in C pass the kit, each changed copy fails, and no file crashes them."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import conformance, gradcheck
from numpy_xlstm.checkpoints.safetensors import numpy_dtype
from numpy_xlstm.conformance import Case
from numpy_xlstm.conformance.files import header, write_tensors
from tests.conformance.shared import one_of_each
from tests.ports.compiled import SANITISED, SOURCES, STRICT, build, cases, example, verified

FAMILIES = "slstm", "mlstm"
"""Families of the ports. One case of each pair of subject and flag is run; all in the long test."""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("c"), "slstm_port", "mlstm_port", "libslstm.so")


@pytest.fixture(scope="module")
def sanitised(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("c"), "slstm_port", "read_set", flags=SANITISED)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("family", FAMILIES)
def test_it_passes(
    family: str, dtype: str, compiled: Path, tmp_path: Path, seed_of_cases: int
) -> None:
    chosen = cases(family, dtype, seed_of_cases)
    chosen = chosen if seed_of_cases else one_of_each(chosen)
    report = verified(compiled / f"{family}_port", chosen, tmp_path)
    assert report.passed, report
    assert len(report.verdicts) > 20


def read_set(sanitised: Path, vectors: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([sanitised / "read_set", vectors], capture_output=True, text=True)


@pytest.mark.long
def test_no_sanitizer_complains(sanitised: Path, tmp_path: Path) -> None:
    own = cases("slstm") + cases("mlstm")
    others = conformance.cases("lstm.step") + conformance.cases("gru.step")[:3]
    assert len(list(conformance.write_vectors(tmp_path, own + others))) == len(own + others)
    done = read_set(sanitised, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    read, run = len(own + others), len(own)
    assert done.stdout == f"{read} cases read, {run} of {run} of the sLSTM and the mLSTM passed\n"


@pytest.mark.long
@pytest.mark.parametrize("family", FAMILIES)
def test_fast_mathematics_passes(family: str, tmp_path: Path, seed_of_cases: int) -> None:
    program = build(tmp_path, f"{family}_port", flags=f"{STRICT} -ffast-math") / f"{family}_port"
    by_dtype = [cases(family, dtype, seed_of_cases) for dtype in ("float64", "float32")]
    chosen = [case for every in by_dtype for case in one_of_each(every)]
    report = verified(program, chosen, tmp_path)
    assert report.passed, report


@pytest.mark.long
def test_the_set_that_comes_with_the_package_is_read(sanitised: Path) -> None:
    done = read_set(sanitised, conformance.SMALL)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cases read" in done.stdout


def test_what_is_off_by_two_bounds_fails(sanitised: Path, tmp_path: Path) -> None:
    case = cases("slstm", "float64")[0]
    content = case.content()
    off = content.expected | {"dx": content.expected["dx"] + 2 * content.bounds["dx"]}
    wrong = replace(case, content=lambda: content._replace(expected=off))
    assert len(list(conformance.write_vectors(tmp_path, [wrong]))) == 1
    done = read_set(sanitised, tmp_path)
    assert done.returncode == 1
    assert done.stdout.startswith(f"{case.id}: dx is off by ")


WRONG = {
    "slstm": {
        "gates f and z exchanged": [
            (
                "f_pre = u->pre[GATE_F], z_pre = u->pre[GATE_Z], o",
                "f_pre = u->pre[2], z_pre = u->pre[1], o",
            )
        ],
        "m is a constant": [
            ("*ds_m - u->f * df", "u->i * di"),
            ("*ds_m - u->i * di", "u->f * df"),
        ],
        "ties go to i": [("u->A >= i_pre", "u->A > i_pre")],
    },
    "mlstm": {
        "the gradient of W_k is not divided": [
            ("? dmade[a] / sqrt((REAL)p->DK) :", "? dmade[a] :")
        ],
        "ties go to i": [("int past = A >= log_i;", "int past = A > log_i;")],
        "kinks go to the floor": [("fabs(qn) >= floor_", "fabs(qn) > floor_")],
        "exp is a sigmoid": [("return p->exp_forget ? x", "return p->exp_forget < 0 ? x")],
    },
}
"""Changes of the sources. ``tests/conformance/test_mutation.py`` tries more mistakes, in Python."""


@pytest.mark.parametrize(
    ("family", "name"),
    [
        *(("slstm", name) for name in WRONG["slstm"]),
        *(pytest.param("mlstm", name, marks=pytest.mark.long) for name in WRONG["mlstm"]),
    ],
)
def test_a_wrong_copy_fails(family: str, name: str, compiled: Path, tmp_path: Path) -> None:
    changes, program = WRONG[family][name], f"{family}_port"
    folder = build(tmp_path, program, changes=changes, changed=f"{family}.c", like=compiled)
    report = verified(folder / program, one_of_each(cases(family, "float32")), tmp_path)
    assert not report.passed
    assert any(verdict.passed for verdict in report.verdicts)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_sixteen_bits_are_read(dtype: str, sanitised: Path, tmp_path: Path) -> None:
    """Inputs of such a case are numbers of 16 bits, so that a file in 16 bits has the same ones."""
    case = conformance.cases("slstm.step", dtype)[0]
    for name, to in (("wide", np.dtype(np.float32)), ("narrow", numpy_dtype(dtype))):
        inputs = {n: a.astype(to) for n, a in case.inputs.items()}
        assert all((inputs[n].astype(a.dtype) == a).all() for n, a in case.inputs.items())
        write_tensors(tmp_path / name, inputs, header(case) | {"dtype": "float32"})
        done = run(sanitised / "slstm_port", tmp_path / name, tmp_path / f"{name}.out")
        assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "wide.out").read_bytes() == (tmp_path / "narrow.out").read_bytes()


def run(program: Path, file: Path, out: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([program, file, out], capture_output=True, text=True, errors="replace")


@pytest.mark.parametrize("seed", range(3))
def test_no_damaged_file_makes_it_crash(sanitised: Path, tmp_path: Path, seed: int) -> None:
    """Truncated files, and headers with changed bytes, are rejected or read."""
    rng = np.random.default_rng(seed)
    case, refused, file, out = cases("slstm")[0], 0, tmp_path / "in", tmp_path / "out"
    write_tensors(file, case.inputs, header(case))
    whole = file.read_bytes()
    end = 8 + int.from_bytes(whole[:8], "little")
    for n in range(20):
        damaged = bytearray(whole[: rng.integers(len(whole)) if n % 4 == 0 else None])
        for at in rng.integers(min(end, len(damaged)) or 1, size=n % 4):
            damaged[at] = rng.choice(list(b'{}[]",:0919-u\\ \0'))
        file.write_bytes(damaged)
        done = run(sanitised / "slstm_port", file, out)
        assert done.returncode in (0, 2), done.stderr
        assert "anitizer" not in done.stderr
        refused += done.returncode == 2
    assert refused > 5


@pytest.mark.parametrize(
    ("family", "change", "message"),
    [
        ("slstm", {"params.R": None}, "params.R: expected a tensor of F64 with 3 axes"),
        ("slstm", {"dy": np.zeros((3, 7, 5))}, "dy: expected 8 numbers along axis 2; got 5"),
        ("slstm", {"lengths": np.array([1, 8, 3])}, "lengths: expected 0 to 7; got 8"),
        ("slstm", {"forget_gate": "tanh"}, "forget_gate: expected sigmoid or exp; got tanh"),
        ("mlstm", {"params.W_v": None}, "params.W_v: expected a tensor of F64 with 2 axes"),
        (
            "mlstm",
            {"params.W_i": np.zeros((5, 5))},
            "params.W_i: expected heads that divide 8 and 12; got 5",
        ),
        (
            "mlstm",
            {"params.W_q": np.zeros((0, 5))},
            "params.W_q, params.W_v: expected keys and values; got none",
        ),
        (
            "mlstm",
            {"state.C": np.zeros((3, 2, 6, 4))},
            "state.C: expected 4 numbers along axis 2; got 6",
        ),
        ("mlstm", {"eps": "small"}, "eps: expected a number; got small"),
    ],
)
def test_wrong_inputs_are_named(
    family: str, compiled: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    name = f"{family}.sequence.exp.ordinary.float64"
    case = next(case for case in cases(family, "float64") if case.id == name)
    inputs = {n: a for n, a in (case.inputs | change).items() if isinstance(a, np.ndarray)}
    known = header(case) | {n: a for n, a in change.items() if isinstance(a, str)}
    write_tensors(tmp_path / "in.safetensors", inputs, known)
    done = run(compiled / f"{family}_port", tmp_path / "in.safetensors", tmp_path / "out")
    assert (done.returncode, done.stderr) == (2, f"{message}\n")
    assert not (tmp_path / "out").exists()


@pytest.mark.long
def test_the_commands_of_the_page_run(tmp_path: Path, trials: int) -> None:
    """Up to two trials with the cases of single steps, in three with those of sequences too."""
    pytest.importorskip("rich", reason="rich (the extra 'cli') is not installed")
    build(tmp_path, "clean")
    root = SOURCES.parents[1]
    page = (root / "docs/porting.md").read_text("utf-8")
    (block,) = re.findall(r"```bash\ncd examples/c\n(.*?)```", page, flags=re.S)
    if trials < 3:
        block, count = re.subn(r" --subject \w+\.sequence", "", block)
        assert count == 2
    for name, command in (("numpy-xlstm", "-m numpy_xlstm"), ("python3", "")):
        block = block.replace(name, f"{sys.executable} {command}")
    shutil.copy(SOURCES / "compiled.py", tmp_path)
    done = subprocess.run(
        ["sh", "-ec", block],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "gradcheck passed" in done.stdout


@pytest.mark.parametrize("family", FAMILIES)
def test_files_that_cannot_be_read_or_written(family: str, compiled: Path, tmp_path: Path) -> None:
    program = compiled / f"{family}_port"
    assert run(program, tmp_path / "none", tmp_path / "out").returncode == 2
    assert "expected a file that can be read" in run(program, tmp_path / "none", tmp_path).stderr
    assert subprocess.run([program], capture_output=True).returncode == 2


@pytest.mark.parametrize("forget_gate", ["sigmoid", "exp"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_by_ctypes_its_backward_passes_gradcheck(
    compiled: Path, forget_gate: str, dtype: Any
) -> None:
    rng = np.random.default_rng(0)
    shapes = {"W": (16, 3), "R": (2, 8, 2), "b": (16,)}
    params = {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}
    layer = example().CompiledSLSTM(params, forget_gate, compiled / "libslstm.so")
    report = gradcheck(layer, rng.standard_normal((2, 3, 3)).astype(dtype), rng=0)
    assert report.passed, report
    assert {row.tensor for row in report.rows} >= {"W", "R", "b", "x", "state.h", "state.m"}


def test_by_ctypes_it_passes_the_kit(compiled: Path) -> None:
    def layer(case: Case) -> Any:
        params = {name: case.inputs[f"params.{name}"] for name in "WRb"}
        gate = case.options["forget_gate"]
        return example().CompiledSLSTM(params, gate, compiled / "libslstm.so")

    known = [
        case for dtype in ("float64", "float32") for case in one_of_each(cases("slstm", dtype))
    ]
    chosen = [case for case in known if case.subject.name == "slstm.sequence"]
    report = conformance.verify(chosen, conformance.from_layer(layer))
    assert report.passed, report
