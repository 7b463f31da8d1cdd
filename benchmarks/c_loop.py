"""Steps in C, compiled with gcc on the machine that times them, with the loop over them in C."""

import ctypes
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.ours import F32, Array, draw, make_layer, mlstm_inputs
from benchmarks.timing import Work


def c_function(name: str) -> Callable[..., None]:
    """Compile ``step.c`` for this machine, and return a function that takes arrays for pointers."""
    if not shutil.which("gcc"):
        raise ModuleNotFoundError("no C compiler", name="gcc")
    with tempfile.TemporaryDirectory() as folder:
        library, source = Path(folder, "step.so"), Path(__file__).with_name("step.c")
        flags = ["-O3", "-march=native", "-shared", "-fPIC", "-o", str(library), str(source), "-lm"]
        subprocess.run(["gcc", *flags], check=True)
        function = ctypes.CDLL(str(library))[name]
    return lambda *arguments: function(*(getattr(a, "ctypes", a) for a in arguments))


def slstm(H: int, steps: int) -> Work:
    """Set up the sLSTM in C, with the loop over the steps in C."""
    function, layer = c_function("slstm_steps"), make_layer("sLSTM", H, 1)
    W, R, b = (np.array(np.squeeze(layer.params[name]).T, order="C") for name in "WRb")
    x, pre = draw(H), np.empty(4 * H, F32)

    def work() -> Array:
        h, c, n = np.zeros((3, H), F32)
        m = np.full(H, -np.inf, F32)
        function(steps, H, x, W, R, b, h, c, n, m, pre)
        return h

    return work


def mlstm(d: int, steps: int) -> Work:
    """Set up the mLSTM in C, with the loop over the steps in C."""
    function, inputs = c_function("mlstm_steps"), [a.ravel() for a in mlstm_inputs(1, 1, 1, d)]

    def work() -> Array:
        C, n, m, h = np.zeros((d, d), F32), np.zeros(d, F32), np.full(1, -np.inf, F32), draw(d)
        function(steps, d, *inputs, C, n, m, h)
        return h

    return work
