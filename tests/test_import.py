"""Importing the package changes no global settings, and loads few modules.

See ``numerics/test_memory.py`` for the allocator.
"""

import json
import subprocess
import sys

PROGRAM = """
import decimal, gc, json, locale, os, random, signal, sys, threading, warnings
import numpy as np

def host():
    os.umask(umask := os.umask(0))
    signals = [str(signal.getsignal(number)) for number in sorted(signal.valid_signals())]
    return {
        "error state": [np.geterr(), str(np.geterrcall())],
        "printing": str(np.get_printoptions()),
        "random numbers": [str(np.random.get_state()), str(random.getstate())],
        "warnings": [str(warnings.filters), str(warnings.showwarning)],
        "signals": signals,
        "threads": [thread.name for thread in threading.enumerate()],
        "locale": locale.setlocale(locale.LC_ALL),
        "environment": dict(os.environ),
        "folder": os.getcwd(),
        "paths": sys.path,
        "hooks": [str(h) for h in (sys.excepthook, sys.displayhook, sys.unraisablehook)],
        "limits": [sys.getrecursionlimit(), sys.getswitchinterval(), threading.stack_size()],
        "collector": [gc.isenabled(), gc.get_threshold()],
        "decimals": str(decimal.getcontext()),
        "umask": umask,
    }

import scipy  # what it changes is its own
before = json.dumps(host())
import MODULE
after = json.dumps(host())
print(json.dumps([json.loads(before), json.loads(after)]))
"""


def changes(module: str) -> dict[str, object]:
    """Return the settings that the import changes."""
    program = PROGRAM.replace("MODULE", module)
    out = subprocess.check_output([sys.executable, "-W", "error", "-c", program], text=True)
    before, after = json.loads(out)
    return {name: after[name] for name in before if before[name] != after[name]}


def test_importing_changes_nothing_in_the_host() -> None:
    modules = "cli", "checkpoints", "training", "generation", "gradcheck", "models", "conformance"
    assert changes(", ".join(f"numpy_xlstm.{name}" for name in modules)) == {}


LOADS = """
import sys
import numpy, numpy.random
before = set(sys.modules)
import numpy_xlstm
roots = {name.partition(".")[0] for name in set(sys.modules) - before}
print(*sorted(roots - sys.stdlib_module_names))
print(*sorted(name for name in sys.modules if name.startswith("numpy_xlstm.")))
"""


def test_importing_takes_no_more_than_numpy_and_the_library_itself() -> None:
    """SciPy, tokenizers, MPI, the command line and the kit are loaded at first use."""
    out = subprocess.check_output([sys.executable, "-c", LOADS], text=True)
    others, own = out.splitlines()
    assert others.split() == ["numpy", "numpy_xlstm"]
    assert "numpy_xlstm.cells.lstm" in own
    assert "numpy_xlstm.cli" not in own
    assert "numpy_xlstm.conformance" not in own


def test_a_change_would_be_noticed() -> None:
    line = "numpy as np; np.seterr(all='raise'); os.environ['A'] = '1'"
    assert sorted(changes(line)) == ["environment", "error state"]
