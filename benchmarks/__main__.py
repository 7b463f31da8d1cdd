"""Time numpy_xlstm and its peers in turns, and print a table.

The number after a median is its ratio to the time of numpy_xlstm; above 1, numpy_xlstm is faster.
The last line of a row is the floor, the time of the matrix products alone. Peers are optional.
The output files are rewritten after each row.
"""

import argparse
import os
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("--only", default="", help="rows whose title contains this text")
    parser.add_argument("--turns", type=int, default=3, help="processes a contender (default: 3)")
    parser.add_argument("--runs", type=int, default=8, help="runs a process, at most (default: 8)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all times")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="replace a page's tables")
    parser.add_argument("--picture", type=Path, metavar="FILE", help="draw the ratios, as SVG")
    parser.add_argument("--before", type=Path, metavar="PATH", help="time another checkout too")
    parser.add_argument("--child", nargs=2, metavar=("ROW", "NAME"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.child and options.before:  # before the first import of numpy_xlstm
        sys.path.insert(0, str(options.before))
    os.environ.pop("OPENBLAS_CORETYPE", None)  # it would select slow kernels, only for NumPy

    from benchmarks import report, timing
    from benchmarks.rows import rows

    if options.child:
        title, name = options.child
        timing.child(next(row for row in rows() if row.title == title), name, options.runs)
        return
    chosen = [row for row in rows() if options.only in row.title]
    if not chosen:
        parser.error(f"--only: expected a part of a title; got {options.only!r}")
    if options.before and not (options.before / "numpy_xlstm").is_dir():
        parser.error(f"--before: expected a folder with numpy_xlstm; got {options.before}")
    files = {kind: getattr(options, kind) for kind in ("json", "picture", "markdown")}
    try:
        report.check_files(files)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    before = options.before and options.before.resolve()
    said = report.setting() | {"turns": options.turns, "runs": options.runs}
    print(report.described(said))
    print("float32, forward and backward; median, ratio to ours, shortest and longest run")
    results: report.Results = {}
    for row in chosen:
        results[row.title] = timing.side_by_side(row, options.turns, options.runs, before)
        print(report.as_text(row.title, results[row.title]), flush=True)
        report.write(said, results, files)


if __name__ == "__main__":
    main()
