"""Time pieces of work side by side: in turns, each turn in a process of its own.

Two libraries in one process have two pools of threads, which wait for work by spinning and take the
cores from each other: the slowdown can be a hundredfold. Turns spread a slow moment of the machine
over all contenders.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from statistics import median

import numpy as np

from numpy_xlstm.numerics.memory import keep_freed_memory
from numpy_xlstm.training.ranks import launched_rank

WARMUP = 5
"""Runs that do not count: until then a process still gets its memory from the system."""

Work = Callable[[], object]
Setup = Callable[[], Work]
"""Makes the arrays and layers, and returns what is to be timed."""


def machine() -> str:
    """Processor threads, NumPy, and the kernels of its BLAS library, on which much depends."""
    try:
        from threadpoolctl import threadpool_info
    except ImportError:
        blas = "BLAS unknown without threadpoolctl"
    else:
        pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
        named = [f"{pool['internal_api']} {pool.get('architecture', '')}" for pool in pools]
        blas = ", ".join(named) or "BLAS unknown"
    return f"{os.cpu_count()} threads, NumPy {np.__version__}, {blas}"


def side_by_side(
    module: str,
    table: str,
    names: list[str],
    turns: int,
    runs: int,
    launchers: Mapping[str, list[str]] | None = None,
) -> None:
    """Print medians in ms, and how many times longer than the first each contender took.

    ``launchers`` has what a contender is started by, such as mpiexec.
    """
    times: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(turns):
        for name in names:
            command = [sys.executable, "-W", "ignore", "-m", module, "--child", table, name]
            command = (launchers or {}).get(name, []) + command
            out = subprocess.check_output([*command, "--runs", str(runs)], text=True)
            times[name] += json.loads(out.splitlines()[-1])
    medians = {name: median(values) for name, values in times.items()}
    print(f"\n{table}")
    for name, value in medians.items():
        spread = f"{min(times[name]) * 1e3:.1f} … {max(times[name]) * 1e3:.1f}"
        ratio = value / medians[names[0]]
        print(f"  {name:40s} {value * 1e3:9.1f} ms   {ratio:6.2f}   ({spread})", flush=True)


def child(tables: Mapping[str, Mapping[str, Setup]], table: str, name: str, runs: int) -> None:
    """Time one contender in this process and print the seconds of each run."""
    keep_freed_memory()
    work = tables[table][name]()
    times = []
    for turn in range(WARMUP + runs):
        started = time.perf_counter()
        work()
        if turn >= WARMUP:
            times.append(time.perf_counter() - started)
    if not launched_rank():
        print(json.dumps(times))
