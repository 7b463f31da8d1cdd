"""Results as text, as JSON, as tables of a page and as a picture."""

import json
import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.timing import BEFORE, COMPILED, FLOOR, NUMPY, Result, best_peer, middle

BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"
PACKAGES = ("numpy_xlstm", "numpy", "scipy", "numba", "torch", "jax", "xlstm", "mlstm_kernels")
SHOWN = (
    "LSTM, B 32, T 128, H 256",
    "sLSTM, B 32, T 128, H 256",
    "GRU, B 32, T 128, H 256",
    "mLSTM, B 1, NH 4, T 4096, d 128",
    "mLSTM, one token of T 1k, d 64",
    "mLSTM, one token of T 64k, d 64",
    "training step, 7 blocks, d 128, mixed",
    "training step, xLSTM Large, 6 blocks, d 512",
    "one token generated, 7 blocks, d 128, mixed",
    "prefill of 256, forward, 7 blocks, d 128, mLSTM",
    "AdamW, 4M numbers",
    "sLSTM, one step, forward, B 1, H 64",
)
"""Rows of the table of a page; the picture has every row with a peer."""

Results = dict[str, dict[str, Result]]
"""Titles of rows, names of contenders, and their results."""


def setting() -> dict[str, Any]:
    """Return a description of the machine, versions and the date."""
    cpuinfo, versions = Path("/proc/cpuinfo"), {"Python": platform.python_version()}
    lines = cpuinfo.read_text("utf-8").splitlines() if cpuinfo.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "BLAS": blas(),
        "versions": versions,
    }


def blas() -> str:
    """Return the BLAS libraries of NumPy and SciPy, and the kernels in use."""
    try:
        import scipy.linalg.cython_blas  # noqa: F401  compiled kernels call SciPy's
        from threadpoolctl import threadpool_info
    except ImportError:
        return "unknown without threadpoolctl"
    keys = "internal_api", "version", "architecture"
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    return ", ".join(sorted({" ".join(str(pool.get(key)) for key in keys) for pool in pools}))


def described(said: dict[str, Any]) -> str:
    """Describe the machine and versions in a sentence."""
    versions = ", ".join(f"{name} {number}" for name, number in said["versions"].items())
    return f"{said['date']}, {said['cores']} cores, {said['processor']}, {said['BLAS']}, {versions}"


def time(seconds: float | None) -> str:
    for factor, unit in ((1e6, "µs"), (1e3, "ms"), (1.0, "s")):
        value = (seconds or 0) * factor
        if 0 < value < 1000:
            return f"{value:.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
    return "–"


def ratio(results: dict[str, Result], name: str | None, ours: str) -> str:
    """Return the median of a contender divided by ours."""
    above, below = middle(results, name), middle(results, ours)
    return f"{above / below:.2f}" if above and below else "–"


def lines(results: dict[str, Result]) -> list[list[str]]:
    """Return for each contender its name, median, ratio to ours, range and a note."""
    found, ours = [], COMPILED if middle(results, COMPILED) else NUMPY
    for name, result in results.items():
        seconds = result.get("seconds")
        spread = f"{time(min(seconds))} … {time(max(seconds))}" if seconds else "–"
        note = ", ".join(f"{key}: {value}" for key, value in result.items() if key != "seconds")
        found.append([name, time(middle(results, name)), ratio(results, name, ours), spread, note])
    return found


def as_text(title: str, results: dict[str, Result]) -> str:
    shown = ("  {:46}{:>9}{:>8}   {:22}{}".format(*line).rstrip() for line in lines(results))
    return "\n".join(["", title, *shown])


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    return ["| " + " | ".join(row) + " |" for row in (head, ["---"] * len(head), *rows)]


def as_markdown(said: dict[str, Any], results: Results, picture: str | None) -> str:
    """Return the table of the page; `--json` and the output have every contender."""
    others = {"peer": "", "floor": FLOOR}
    turns = f"{said['turns']} process" + "es" * (said["turns"] != 1)
    if any(BEFORE in row for row in results.values()):
        others["before"] = BEFORE
    head = ["work", "compiled", "NumPy", "fastest peer", *(f"{name} / compiled" for name in others)]
    summary = []
    for title in filter(results.__contains__, SHOWN):
        row = results[title]
        peer = best_peer(row)
        compiled, numpy = (time(middle(row, name)) for name in (COMPILED, NUMPY))
        ratios = [ratio(row, name or peer, COMPILED) for name in others.values()]
        summary.append([title, compiled, numpy, peer or "–", *ratios])
    return "\n".join(
        [
            f"Measured on {described(said)}; {turns} of {said['runs']} runs.\n",
            *([f"![Time of the fastest peer divided by ours]({picture})\n"] if picture else []),
            *table(head, summary),
        ]
    )


def replaced(page: str, text: str) -> str:
    """Return a page with the text between the markers replaced."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"the page has no markers {BEGIN} and {END}")
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"


def check_files(files: dict[str, Path | None]) -> None:
    """Raise an error before the work if a file cannot be written, or a page has no markers."""
    for kind, file in files.items():
        if file is None:
            continue
        if kind == "markdown":
            replaced(file.read_text("utf-8"), "")
        elif not file.absolute().parent.is_dir() or file.is_dir():
            raise ValueError(f"--{kind}: expected a file in an existing folder; got {file}")


def draw(results: Results, path: Path) -> None:
    """Draw for each row the time of the fastest peer divided by ours, as SVG."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from docs.figures.plots import FIRST, INK, SECOND, STYLE, save

    with rc_context(STYLE):
        figure = Figure(figsize=(5, 1.2 + 0.6 * len(results)), layout="constrained")
        axes, ticks = figure.add_subplot(), [0.25, 0.5, 1, 2, 4, 8, 16, 32]
        for place, (title, row) in enumerate(results.items()):
            axes.text(0, place - 0.36, title, transform=axes.get_yaxis_transform(), fontsize=10)
            for n, (ours, colour) in enumerate(((COMPILED, FIRST), (NUMPY, SECOND))):
                if (said := ratio(row, best_peer(row), ours)) != "–":
                    y, value, label = place - 0.13 + 0.26 * n, float(said), ours.split()[1]
                    label = "" if label in axes.get_legend_handles_labels()[1] else label
                    axes.barh(y, value - 1, 0.24, left=1, color=colour, label=label)
                    side = "left" if value >= 1 else "right"
                    axes.text(value, y, f" {said} ", ha=side, va="center", fontsize=9)
        axes.axvline(1, color=INK, linewidth=1)
        axes.set(xscale="log", yticks=[], ylim=(len(results) - 0.4, -0.8))
        axes.set(xlabel="time of the fastest peer / our time")
        axes.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
        axes.minorticks_off()
        axes.margins(x=0.12)
        figure.legend(loc="outside upper center", ncols=2)
        save(figure, path.resolve())


def write(said: dict[str, Any], results: Results, files: dict[str, Path | None]) -> None:
    """Write the requested files: ``json``, ``picture`` and ``markdown``."""
    if data := files["json"]:
        text = json.dumps(said | {"rows": results}, indent=1, ensure_ascii=False)
        data.write_text(text + "\n", "utf-8")
    picture, link = files["picture"], None
    if picture and (with_peer := {t: row for t, row in results.items() if best_peer(row)}):
        draw(with_peer, picture)
    if page := files["markdown"]:
        if picture and picture.exists():
            link = Path(os.path.relpath(picture, page.parent)).as_posix()
        text = replaced(page.read_text("utf-8"), as_markdown(said, results, link))
        page.write_text(text, "utf-8")
