"""The benchmarks run with small sizes, and write the requested files. Times are not tested."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import __main__, float32_gradients, large_folder, report, timing
from benchmarks.rows import rows
from benchmarks.timing import COMPILED, FLOOR, NUMPY, OURS

ROWS = {row.title: row for row in rows(64)}
PEERS = {
    str(setup.args): (title, name)  # type: ignore[attr-defined]
    for title, row in ROWS.items()
    for name, setup in row.peers.items()
}
"""With small sizes, some rows have the same peer."""


def first(title: str, name: str) -> list[float]:
    return timing.some(ROWS[title].contenders()[name]()())


def test_titles_are_all_different() -> None:
    assert len(ROWS) == len(rows()) == len({row.title for row in rows()})


@pytest.mark.parametrize("title", ROWS)
def test_ours_runs(title: str) -> None:
    with np.errstate(all="raise", under="ignore"):
        assert np.isfinite(first(title, NUMPY)).all()
    if ROWS[title].floor:
        assert first(title, FLOOR) == []


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("title", "name"), PEERS.values())
def test_a_peer_computes_the_same(title: str, name: str) -> None:
    try:
        found = first(title, name)
    except ImportError as error:
        pytest.skip(f"{error.name} is not installed")
    expected = first(title, NUMPY) if found else []
    np.testing.assert_allclose(found, expected, atol=1e-3 * max(map(abs, expected), default=1))


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--markdown=missing.md", "No such file or directory: 'missing.md'"),
        ("--markdown=page.md", "the page has no markers"),
        ("--json=missing/a.json", "--json: expected a file in an existing folder; got missing/"),
        ("--picture=.", "--picture: expected a file in an existing folder; got ."),
    ],
)
def test_files_are_checked_before_the_work(
    option: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(timing, "side_by_side", None)
    Path("page.md").write_text("a page", "utf-8")
    with pytest.raises(SystemExit):
        __main__.main([option])
    out, err = capsys.readouterr()
    assert (out, message in err.splitlines()[-1]) == ("", True)


def some_results(*_: Any) -> dict[str, timing.Result]:
    results: dict[str, timing.Result] = {
        COMPILED: {"seconds": [0.002, 0.001, 0.003], "outputs": [1.0, 2.0]},
        NUMPY: {"seconds": [0.008], "outputs": [1.0, 2.001]},
        "other": {"seconds": [0.003, 0.003], "outputs": [1.0, 2.1]},
        "slow": {"seconds": [1.0]},
        "gone": {"missing": "torch"},
        FLOOR: {"seconds": [0.001]},
    }
    timing.compare_outputs(results)
    return results


def test_files_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "side_by_side", some_results)
    data, page = tmp_path / "times.json", tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n", "utf-8")
    __main__.main(["--json", str(data), "--markdown", str(page)])
    found = json.loads(data.read_text("utf-8"))
    assert list(found["rows"]) == list(ROWS)
    assert found["versions"]["numpy"] == np.__version__
    text = page.read_text("utf-8")
    assert text.startswith(f"before\n{report.BEGIN}\n")
    assert text.endswith(f"{report.END}\nafter\n")
    assert "old" not in text
    summary = "| 2 ms | 8 ms | other | 1.50 | 0.50 |"
    assert set(report.SHOWN) <= set(ROWS)
    assert text.count(summary) == len(report.SHOWN)


def test_a_picture_is_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra cli")
    report.draw(dict.fromkeys(list(ROWS)[:3], some_results()), tmp_path / "speed.svg")
    svg = (tmp_path / "speed.svg").read_text("utf-8")
    assert all(text in svg for text in ("1.50", "0.38", "prefers-color-scheme", *list(ROWS)[:3]))


def test_a_process_times_one_contender() -> None:
    row = rows()[0]
    (seconds,) = timing.in_a_process(row, FLOOR, 1, None)["seconds"]
    assert seconds > 0
    assert "failed" in timing.in_a_process(row, "nobody", 1, None)


def test_who_fails_is_left_out_of_further_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def process(_: Any, name: str, *__: Any) -> timing.Result:
        calls.append(name)
        return {"failed": "why"} if name == NUMPY else {"seconds": [1.0]}

    monkeypatch.setattr(timing, "in_a_process", process)
    results = timing.side_by_side(rows()[0], 3, 1, None)
    assert results[NUMPY] == {"failed": "why"}
    assert results[FLOOR] == {"seconds": [1.0] * 3}
    assert calls.count(NUMPY) == 1
    assert set(OURS) - set(calls) == {timing.BEFORE}


@pytest.mark.parametrize("kind", float32_gradients.OURS)
def test_gradients_in_float32(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch", reason="PyTorch (the extra 'peers') is not installed")
    pytest.importorskip("jax", reason="JAX (the extra 'peers') is not installed")
    monkeypatch.setattr(float32_gradients, "NEIGHBOURS", 2)
    (found,) = float32_gradients.errors(kind, cases=1, seed=0)
    assert found.keys() == {"torch", "jax", *float32_gradients.OURS[kind]}
    assert 0 < max(found.values()) < 1e-4


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the memory from /proc")
def test_a_folder_of_random_weights_runs(tmp_path: Path, capsys: Any) -> None:
    pytest.importorskip("ml_dtypes")
    large_folder.make(tmp_path / "folder", 64, 2, 2, 50)
    large_folder.run(tmp_path / "folder", "stored", prompt=3, tokens=2)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[0] for line in lines] == [
        "load",
        "prompt of 3",
        "first token",
        "2 tokens",
    ]
