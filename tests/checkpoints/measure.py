"""The memory of this process."""

import resource
import sys
from pathlib import Path


def peak() -> int:
    """Return the peak memory of this process in bytes.

    On Linux, ``ru_maxrss`` includes the memory of the parent process.
    """
    if found := _status("VmHWM"):
        return found
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def now() -> int:
    """Return the current memory, or the peak on systems without this number."""
    return _status("VmRSS") or peak()


def _status(name: str) -> int:
    """Return a size of this process on Linux, in bytes; 0 elsewhere."""
    table = Path("/proc/self/status")
    lines = table.read_text().splitlines() if table.exists() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), 0)
