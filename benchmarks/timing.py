"""Timing of contenders in turns, each turn in its own process.

Two libraries in one process have two thread pools. Threads that spin while they wait take the cores
from the other pool, which can slow a library down a hundredfold. Turns distribute slow moments of
the machine over all contenders.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

COMPILED = "numpy_xlstm, compiled"
NUMPY = "numpy_xlstm, NumPy"
BEFORE = "before"
FLOOR = "matrix products alone"
OURS = (COMPILED, NUMPY, BEFORE)

WARMUP = 4
"""Untimed first runs, in which a process compiles code and gets memory from the system."""

Work = Callable[[], Any]
"""Function for one run; returns outputs to compare with those of numpy_xlstm, or None."""

Setup = Callable[[], Work]
"""Function that makes arrays and layers, and returns the run to be timed."""


class Row(NamedTuple):
    """A row of the table: a computation and its contenders."""

    title: str
    ours: Setup
    peers: Mapping[str, Setup]
    floor: Setup | None = None
    pieces: int = 1
    """Tokens or steps in a run, by which times are divided."""
    ranks: int = 1
    """MPI ranks of the contenders of numpy_xlstm."""

    def contenders(self) -> dict[str, Setup]:
        """Return names and setups of all contenders, numpy_xlstm first and the floor last."""
        floor = {FLOOR: self.floor} if self.floor else {}
        return {**dict.fromkeys(OURS, self.ours), **self.peers, **floor}


Result = dict[str, Any]
"""``seconds`` of all runs and ``outputs`` of the last, or a reason: ``missing`` or ``failed``."""


def measure(row: Row, name: str, runs: int) -> Result:
    """Time one contender in this process."""
    from numpy_xlstm.numerics.memory import keep_freed_memory

    if name == COMPILED:
        import numba  # noqa: F401  a missing package is reported
    keep_freed_memory()
    work, seconds = row.contenders()[name](), []
    for _ in range(WARMUP + runs):
        started = time.perf_counter()
        outputs = work()
        seconds.append((time.perf_counter() - started) / row.pieces)
    return {"seconds": seconds[WARMUP:], "outputs": some(outputs)}


def some(outputs: Any) -> list[float]:
    """Return the first 64 numbers of the outputs, or an empty list if there are none."""
    return [] if outputs is None else np.asarray(outputs, float).ravel()[:64].tolist()


def child(row: Row, name: str, runs: int) -> None:
    """Measure a contender and print the result as the last line."""
    from numpy_xlstm.training.ranks import launched_rank

    try:
        result = measure(row, name, runs)
    except ImportError as error:
        result = {"missing": error.name or str(error)}
    if not launched_rank():
        print(json.dumps(result), flush=True)


def in_a_process(row: Row, name: str, runs: int, before: Path | None) -> Result:
    """Measure a contender in a new process."""
    environment = os.environ | {"NUMPY_XLSTM_COMPILED": "0" if name == NUMPY else "1"}
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks", "--child", row.title, name]
    command += ["--runs", str(runs)] + (["--before", str(before)] if name == BEFORE else [])
    if row.ranks > 1 and name in OURS:
        mpiexec = str(Path(sys.executable).with_name("mpiexec"))
        command = [mpiexec, "-n", str(row.ranks), *command]
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    except OSError as error:
        return {"failed": str(error)}
    if done.returncode or not done.stdout.strip():
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        return {"failed": f"exit code {done.returncode}: {last[:200]}"}
    result: Result = json.loads(done.stdout.splitlines()[-1])
    return result


def side_by_side(row: Row, turns: int, runs: int, before: Path | None) -> dict[str, Result]:
    """Measure all contenders of a row in turns; skip a contender after a failure."""
    names = [name for name in row.contenders() if name != BEFORE or before]
    results: dict[str, Result] = {name: {"seconds": []} for name in names}
    for _ in range(turns):
        for name in names:
            if "seconds" in results[name]:
                result = in_a_process(row, name, runs, before)
                if "seconds" in result:
                    result["seconds"] = results[name]["seconds"] + result["seconds"]
                results[name] = result
    compare_outputs(results)
    return results


def compare_outputs(results: Mapping[str, Result]) -> None:
    """Mark contenders whose outputs differ from the first by more than 1e-3 of the largest."""
    found = {name: result.pop("outputs", None) for name, result in results.items()}
    if expected := found[COMPILED] or found[NUMPY]:
        for name, outputs in found.items():
            pairs = zip(outputs or [], expected, strict=False)
            error = max((abs(a - b) for a, b in pairs), default=0)
            if not error <= 1e-3 * max(map(abs, expected)):
                results[name]["outputs differ by"] = error


def middle(results: Mapping[str, Result], name: str | None) -> float | None:
    """Return the median time of a contender in seconds; None if it has no times."""
    seconds = results.get(name or "", {}).get("seconds")
    return median(seconds) if seconds else None


def best_peer(results: Mapping[str, Result]) -> str | None:
    """Return the name of the fastest peer; None if there is none."""
    times = {name: middle(results, name) or 0 for name in results if name not in (*OURS, FLOOR)}
    return min((name for name in times if times[name]), key=times.__getitem__, default=None)
