"""Time pieces of work side by side: in turns, so that a slow moment of the machine hits all."""

import time
from collections.abc import Callable, Mapping
from statistics import median

Work = Callable[[], object]


def side_by_side(works: Mapping[str, Work], runs: int = 15, warmup: int = 2) -> dict[str, float]:
    """Median seconds of each piece of work, all of them run once per turn."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for turn in range(warmup + runs):
        for name, work in works.items():
            started = time.perf_counter()
            work()
            if turn >= warmup:
                times[name].append(time.perf_counter() - started)
    return {name: median(values) for name, values in times.items()}


def show(title: str, seconds: Mapping[str, float], reference: str) -> None:
    """Print medians, and how many times longer than ``reference`` each took."""
    print(f"\n{title}")
    for name, value in seconds.items():
        print(f"  {name:42s} {value * 1e3:9.1f} ms   {value / seconds[reference]:6.2f}")
