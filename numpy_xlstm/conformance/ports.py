"""Ports: layers, forwards of a framework, folders of results, and programs run for each case."""

import filecmp
import os
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile, mkdtemp
from typing import Any

from numpy_xlstm.conformance.case import Case
from numpy_xlstm.conformance.files import VERSION, header, read_tensors, write_tensors
from numpy_xlstm.conformance.subjects import computed, cotangent_of, gradient_of, part, positional
from numpy_xlstm.conformance.verify import Port, PortError, UnsupportedError
from numpy_xlstm.errors import OptionError
from numpy_xlstm.gradcheck.target import checked_target, over
from numpy_xlstm.numerics import Arrays
from numpy_xlstm.trees import rebuild

PLACEHOLDER = re.compile(r"{in}|{out}")
"""A placeholder in a command for the file to read or the file to write."""
UNSUPPORTED = 77
"""Exit status of a program that does not have what the case needs, as in the test suites of GNU."""
MOST_SAID = 10_000
"""Number of bytes read from the end of standard error."""
MOST_WRITTEN = 100_000_000
"""Number of bytes in its folder and in standard error after which a program is stopped."""
MARK = "NUMPY_XLSTM_PORT"
"""Environment variable by which the processes that a program has started are found on Linux."""
MOST_SHOWN = 300
"""Number of characters of standard error in a message; the middle of a longer text is omitted."""
MORE = 10_000_000
"""A file of results may have this many bytes more than ten times the expected results."""


def from_layer(make: Callable[[Case], Any]) -> Port:
    """Make a port from layers.

    Parameters
    ----------
    make : Callable[[Case], layer or (forward, backward)]
        Function that makes a layer for a case, for example from ``case.options``. The layer then
        gets the parameters of the case. Its forward is called with the inputs of the case in their
        order, with the state if there is one, and with ``lengths=`` if there are lengths. The state
        has the type of ``init_state(batch_size)`` if the layer has this method; otherwise it is
        tuples or None. :func:`numpy_xlstm.gradcheck.from_torch` makes such layers.

    Returns
    -------
    callable
        Port for :func:`verify`.

    Raises
    ------
    TypeError
        In the port, if ``make`` returns neither a layer nor a pair of functions.

    Examples
    --------
    >>> from numpy_xlstm import conformance, sLSTM
    >>> cases = conformance.cases("slstm.sequence", "float32")
    >>> port = conformance.from_layer(lambda case: sLSTM(**case.options))
    >>> conformance.verify(cases[:3], port).passed
    True
    """

    def port(case: Case) -> Arrays:
        layer, params = checked_target(make(case)), part(case.inputs, "params")
        layer = over(layer, params) if params else layer
        states, state = [*part(case.expected, "final")], part(case.inputs, "state")
        before: Any = _nested(state) if state else None
        if states and hasattr(layer, "init_state"):
            before = layer.init_state(len(case.inputs[positional(case.inputs)[0]]))
            before = rebuild(before, iter(state.values())) if state else before
        inputs = dict(case.inputs)
        if not any(name.startswith(("d", "grads.")) for name in case.expected):
            inputs.pop("dy", None)  # no gradient is asked for, and the layer may have none
        return computed(layer, inputs, states, before)

    return port


def from_forward(wrap: Callable[..., Any], forward: Callable[..., Mapping[str, Any]]) -> Port:
    """Make a port from a forward in PyTorch or JAX, whose backward is that of the framework.

    Parameters
    ----------
    wrap : callable
        :func:`numpy_xlstm.gradcheck.from_torch` or ``from_jax``.
    forward : Callable[[Case, dict], Mapping]
        Function of a case and its inputs as tensors of the framework, without cotangents. It
        returns y and the final states as tensors, under the names of the kit. If the case has no
        state, the empty state is among the inputs.

    Returns
    -------
    callable
        Port for :func:`verify`.

    Examples
    --------
    .. code-block:: python

        def forward(case, given):
            h = torch.tanh(given["x"] @ given["params.W"].T + given["params.b"])
            return {"y": h}

        port = conformance.from_forward(from_torch, forward)
    """

    def port(case: Case) -> Arrays:
        given = {n: a for n, a in case.given.items() if not n.startswith(("dy", "dstate"))}
        layer = wrap(lambda inputs: dict(forward(case, inputs)))
        y, cache = layer.forward(given)
        if case.expected.keys() <= y.keys():
            return dict(y)
        cotangents = {name: case.inputs[cotangent_of(name)] for name in y}
        gradients, _ = layer.backward(cotangents, cache)
        given_back = {gradient_of(n): a for n, a in gradients.items() if a is not None}
        return {**y, **given_back}

    return port


def _nested(arrays: Arrays) -> Any:
    """Convert ``{"0.h": a, "0.c": b, "1.h": c}`` to ((a, b), (c,))."""
    if "" in arrays:
        return arrays[""]
    groups: dict[str, Arrays] = {}
    for name, array in arrays.items():
        first, _, rest = name.partition(".")
        groups.setdefault(first, {})[rest] = array
    return tuple(_nested(group) for group in groups.values())


def from_folder(folder: Path) -> Port:
    """Make a port from a folder with a file ``ID.safetensors`` of results for each case."""

    def port(case: Case) -> Mapping[str, Any]:
        path = folder / f"{case.id}.safetensors"
        if not path.exists():
            raise PortError(f"expected {path.name}; got no such file")
        return checked_results(path, case)

    return port


def checked_results(path: Path, case: Case) -> Mapping[str, Any]:
    """Read a file of results, and check its size and version."""
    most = 10 * sum(array.nbytes for array in case.expected.values()) + MORE
    try:
        if (size := path.stat().st_size) > most:
            raise ValueError(f"expected at most {most:,} bytes; got {size:,}")
        arrays, metadata = read_tensors(path)
    except (ValueError, OSError, ImportError) as error:
        raise PortError(f"no results: {error}") from error
    if metadata.get("version", VERSION) != VERSION:
        raise PortError(f"expected results of version {VERSION}; got {metadata['version']!r}")
    return arrays


def unmatched(folder: Path, cases: Sequence[Case]) -> tuple[str, ...]:
    """Return the unmatched files in a folder: files of tensors for none of these cases."""
    known = {case.id for case in cases}
    files = sorted(p for p in folder.iterdir() if p.suffix == ".safetensors")
    return tuple(path.name for path in files if path.stem not in known)


def from_command(command: str, folder: Path, seconds: float) -> Port:
    """Make a port from a command such as ``./my_port {in} {out}``, run without a shell.

    Its files are in a new folder within ``folder``. It has a number of seconds for each case, and
    skips a case by exit status 77. At the end of a case, its process group is killed, on Linux also
    each process with its environment, and its folder is removed. Files elsewhere are not noticed.
    With the program ``setpriv`` of Linux, it is also killed if this process is.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise OptionError(f"--run: expected a command; got {command!r}: {error}") from None
    if not {*PLACEHOLDER.findall(command)} >= {"{in}", "{out}"}:
        raise OptionError(f"--run: expected a command with {{in}} and {{out}}; got {command!r}")
    if shutil.which(words[0]) is None:
        got = f"{words[0]!r}, {_why_not(words[0])}"
        raise OptionError(f"--run: expected a program that can be run; got {got}")
    words = [*_killed_with_this_process(), *words]

    def port(case: Case) -> Mapping[str, Any]:
        with scratch(folder) as own:  # a new one, so that no earlier program has left a link there
            into, out = (own / f"{case.id}.{kind}.safetensors" for kind in ("in", "out"))
            write_tensors(into, case.inputs, header(case))
            paths = {"{in}": str(into), "{out}": str(out)}
            filled = [PLACEHOLDER.sub(lambda found: paths[found[0]], word) for word in words]
            _run(filled, own, seconds)
            if not out.is_file():
                raise PortError("the program has ended without an error, but has written no file")
            if filecmp.cmp(into, out, shallow=False):
                raise PortError("expected results; got a copy of the inputs")
            results = checked_results(out, case)
        if own.exists():
            raise PortError(f"the program has left files that cannot be removed in {own}")
        return results

    return port


@contextmanager
def scratch(parent: Path | None = None) -> Iterator[Path]:
    """Make a temporary folder, and at the end remove what can be removed of it."""
    folder = Path(mkdtemp(dir=parent))
    try:
        yield folder
    finally:
        with suppress(RecursionError):  # of a deep tree
            shutil.rmtree(folder, ignore_errors=True)


def _why_not(program: str) -> str:
    """Describe why a program cannot be run."""
    is_file = Path(program).is_file()
    if "/" not in program and os.sep not in program:
        hint = f"; did you mean ./{program}?" if is_file else ""
        return f"which is not on the PATH{hint}"
    return "which is not marked as executable" if is_file else "no such file"


def _killed_with_this_process() -> list[str]:
    """Return the words before a command that make the system kill it when this process ends."""
    words = ["setpriv", "--pdeathsig", "KILL"]
    with suppress(OSError):  # no such program
        if subprocess.run([*words, "true"], capture_output=True, check=False).returncode == 0:
            return words
    return []


def _run(words: list[str], folder: Path, seconds: float) -> None:
    """Run a program; at its end or at a limit, kill all its processes."""
    mark = secrets.token_hex(16)
    with TemporaryFile() as errors:  # a pipe stays open until all child processes close it
        try:
            process = subprocess.Popen(
                words,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
                env={**os.environ, MARK: mark},
            )
        except OSError as error:
            raise PortError(f"the program cannot be run: {error.strerror}") from error
        try:
            end = time.monotonic() + seconds
            while process.poll() is None:
                if time.monotonic() > end:
                    raise PortError(f"stopped at the time limit of {seconds:g} s")
                if os.fstat(errors.fileno()).st_size + _size(folder) > MOST_WRITTEN:
                    raise PortError(f"stopped because it wrote more than {MOST_WRITTEN:,} bytes")
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.05)
        finally:
            _end(process, f"{MARK}={mark}".encode())
        size = errors.seek(0, os.SEEK_END)
        errors.seek(max(0, size - MOST_SAID))
        message = " ".join(errors.read().decode("utf-8", "replace").split())
    if len(message) > MOST_SHOWN:  # the start or the end names the error
        half = MOST_SHOWN // 2
        message = f"{message[:half]} … {message[-half:]}"
    if process.returncode == UNSUPPORTED:
        raise UnsupportedError
    if code := process.returncode:
        how = f"signal {-code} ({signal.strsignal(-code)})" if code < 0 else f"exit status {code}"
        parts = filter(None, (f"the program has ended with {how}", message))
        raise PortError(": ".join(parts))


def _size(folder: Path) -> int:
    """Return the size of all files in a folder; 0 if they change meanwhile, or lie too deep."""
    with suppress(OSError, RecursionError):
        return sum(file.lstat().st_size for file in folder.rglob("*"))
    return 0


def _end(process: "subprocess.Popen[bytes]", mark: bytes) -> None:
    """Kill a program, its process group, and on Linux each process that has its environment."""
    with suppress(ProcessLookupError):
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()
    for _ in range(100):  # one that is killed may have started another
        for pid in (others := _marked(mark)):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not others:
            break


def _marked(mark: bytes) -> list[int]:
    """Return the processes with an entry in their environment; none without /proc."""
    pids = []
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with suppress(OSError):  # it has ended, or belongs to another user
            if mark in environment.read_bytes().split(b"\0"):
                pids.append(int(environment.parent.name))
    return pids
