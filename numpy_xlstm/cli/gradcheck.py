"""The command ``numpy-xlstm gradcheck``."""

import argparse
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from functools import partial
from multiprocessing import active_children, get_context, parent_process
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np

from numpy_xlstm import __version__
from numpy_xlstm.cli.arguments import Option, add_options, check_report, shape, whole, write_report
from numpy_xlstm.cli.display import bar_of
from numpy_xlstm.cli.signals import handling
from numpy_xlstm.conformance import suite
from numpy_xlstm.errors import OptionError
from numpy_xlstm.gradcheck import Report, from_torch, gradcheck
from numpy_xlstm.gradcheck.target import checked_target, is_floating, named_params, over
from numpy_xlstm.numerics import Array
from numpy_xlstm.numerics.threads import limit_blas, num_cores

DESCRIPTION = """\
Check the hand-derived backward of every cell and layer against the complex step of its forward:
each tensor alone, and all together by the adjoint identity. Every parameter, every input and every
part of the initial state is checked, with random cotangents on every output and every part of the
final state. Without names, everything is checked in less than a minute, on all cores: each tensor
along two random directions. With names or --full, each entry of small tensors is checked. To check
your own layer, give 'my_module:MyCell(3, 4, rng=rng)', where rng is the generator of --seed, and
dtype is that of --dtype; its parameters that are 0 are replaced by random numbers. The exit code is
0 only if all checks pass. Ctrl-C ends the command early, with the results so far."""

# Random directions are enough: a mistake in any entry changes the slope along almost all of them.
QUICK: dict[str, Any] = {"max_entries": 0, "directions": 2}

FORM = "module:name, file.py:name or module:name(3, num_heads=2, rng=rng)"
ROWS, STEPS = 2, 4
"""Sizes of an input x without a given shape."""

MOST = 16
"""Largest number of processes: each imports the package, which takes memory and half a second."""

OPTIONS: dict[str, Option] = {
    "full": (bool, False, "check everything entry by entry, as with names"),
    "input": ([shape], None, "shape of an input of your own layer, such as 2,5,3"),
    "dtype": (("float64", "float32"), "float64", "dtype of parameters and inputs"),
    "seed": (whole(0), 0, "seed of all random numbers"),
    "json": (Path, None, "write the full reports to a file"),
    "verbose": (bool, False, "show every tensor, not one line per case"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument(
        "names",
        nargs="*",
        help="checks, such as slstm, mlstm.step/exp or my_module:MyCell(3, 4) (default: all)",
    )
    add_options(parser, OPTIONS)


def run(arguments: argparse.Namespace) -> int:
    """Run the checks, and print a table and the full reports of failures."""
    seed, own = arguments.seed, _own(arguments)
    ours = [name for name in arguments.names if name not in own]
    chosen = [*own, *(suite.select(ours, suite.cases()) if ours or not own else [])]
    check_report(arguments.json)
    options = {} if arguments.full or arguments.names else QUICK
    reports, started = {}, time.perf_counter()
    with suppress(KeyboardInterrupt), bar_of("cases") as show:
        line = f"{{:{max(map(len, chosen))}}} {{:>10}}  {{}}"
        checks = "1 check" if len(chosen) == 1 else f"{len(chosen)} checks"
        print(f"{checks}, {arguments.dtype}, with the largest relative error of any tensor")
        print(line.format("checked", "error", "status"), flush=True)
        check = partial(_report, seed, arguments.dtype, own, options)
        few: Any = nullcontext(map(check, chosen))  # the start of processes would take longer
        with few if arguments.names else on_all_cores(check, chosen) as results:
            for name, report in zip(chosen, results, strict=True):
                reports[name] = report
                troubled = report.failures or report.undecided
                status = troubled[0].status if troubled else "ok"
                print(line.format(name, f"{report.max_error:.1e}", status), flush=True)
                show(len(reports), len(chosen))
    for name, report in reports.items():
        if arguments.verbose or not report.passed:
            print(f"\n{name}\n{report}")
    done, failed = len(reports) == len(chosen), sum(not r.passed for r in reports.values())
    verdict = f"{failed} of {len(reports)} did not pass" if failed else f"all {len(reports)} passed"
    if not done:
        print(f"{len(reports)} of {len(chosen)} checked, interrupted")
    if done or failed:
        print(f"{verdict} in {time.perf_counter() - started:.1f} s, seed {seed}")
    if arguments.json is not None:
        dicts = {name: report.to_dict() for name, report in reports.items()}
        result = {"version": __version__, "dtype": arguments.dtype, "passed": done and not failed}
        text = json.dumps(result | {"reports": dicts}, indent=1, ensure_ascii=False)
        write_report(arguments.json, text)
    return 1 if failed else 0 if done else 130


@contextmanager
def on_all_cores(function: Callable[..., Any], parts: Sequence[Any]) -> Iterator[Iterator[Any]]:
    """Give the results of a function on each part, in order, from a process for each core.

    Ctrl-C reaches only this process. An exception that leaves the context kills the others.
    """
    count = min(MOST, num_cores(), len(parts))
    if count < 2:
        yield map(function, parts)
        return
    os.environ["PYTHONSAFEPATH"] = "1"  # or they would import a struct.py of the working directory
    with ProcessPoolExecutor(count, get_context("spawn"), _begin) as pool:
        try:
            with handling(signal.SIGINT, signal.SIG_IGN):  # the processes inherit it
                futures = [pool.submit(function, part) for part in parts]
            yield map(Future.result, futures)  # pool.map would cancel some before the kill
        except BaseException:
            for child in active_children():
                child.kill()
            raise


def _begin() -> None:
    """Prepare a process: Windows would interrupt it too, and BLAS would use all cores."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    limit_blas(1)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this process when its parent has ended, even by a signal: its queue would wait on."""
    if parent := parent_process():
        parent.join()
        os._exit(1)


def _report(
    seed: int, dtype: str, own: dict[str, suite.Target], options: dict[str, Any], name: str
) -> Report:
    rng = np.random.default_rng(seed)
    target, inputs = own[name] if name in own else suite.cases()[name](rng, np.dtype(dtype))
    return gradcheck(target, *inputs, rng=seed, **options)


def _own(arguments: argparse.Namespace) -> dict[str, suite.Target]:
    """Return the user's own targets, whose names have a colon, with their inputs."""
    shapes, dtype = arguments.input or [], np.dtype(arguments.dtype)
    own = {
        name: imported_target(name, shapes, np.random.default_rng(arguments.seed), dtype)
        for name in arguments.names
        if ":" in name
    }
    if shapes and not own:
        raise OptionError("--input: expected a layer of your own, such as my_module:MyCell(3, 4)")
    return own


def imported_target(
    text: str, shapes: Sequence[tuple[int, ...]], rng: np.random.Generator, dtype: Any
) -> suite.Target:
    """Evaluate a layer, a PyTorch module or a pair of functions, and make inputs for it.

    ``rng`` and ``dtype`` are names that the text may contain. Without shapes of inputs, the target
    must have an ``input_size``.
    """
    target = evaluated(text, {"rng": rng, "dtype": dtype})
    if isinstance(target, type):
        raise OptionError(f"{text}: expected {text}(…), with its arguments; got the class")
    if "torch" in sys.modules and isinstance(target, sys.modules["torch"].nn.Module):
        target = from_torch(target)
    try:
        checked_target(target)
    except TypeError as error:
        raise OptionError(
            f"{text}: {str(error).removeprefix('gradcheck: ')}; from_torch and from_jax make "
            "layers from functions of PyTorch or JAX"
        ) from None
    if params := named_params(target):
        target = over(target, {n: _without_zeros(a, rng, dtype) for n, a in params.items()})
    return target, _inputs(text, target, shapes, rng, dtype)


def evaluated(text: str, names: dict[str, Any]) -> Any:
    """Import a module or a file, from the working directory first; evaluate an expression there.

    Errors of the user's own code, which the expression is a part of, are not caught.
    """
    module, _, expression = text.partition(":")
    module = module.removesuffix(".py").replace("/", ".")
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    try:
        code = compile(expression.strip(), text, "eval")
    except (SyntaxError, ValueError):  # ValueError: bytes that are no text
        code = None
    if code is None or not module or module.startswith("."):
        raise OptionError(f"{text}: expected {FORM}")
    try:
        namespace = vars(importlib.import_module(module))
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise OptionError(
            f"{text}: expected a module in this folder, or installed; got {module!r}"
        ) from None
    return eval(code, {**namespace, **names})


def _without_zeros(array: Array, rng: np.random.Generator, dtype: Any) -> Array:
    """Replace zeros by small numbers, because a factor of zero hides mistakes."""
    if not is_floating(array):
        return array
    drawn = 0.1 * rng.standard_normal(array.shape)
    filled: Array = np.where(array == 0, drawn, array).astype(dtype)
    return filled


def _inputs(
    text: str, target: Any, shapes: Sequence[tuple[int, ...]], rng: np.random.Generator, dtype: Any
) -> tuple[Array, ...]:
    """Draw inputs; without shapes, an x for one step, or else for a sequence."""
    if shapes:
        return tuple(rng.standard_normal(sizes).astype(dtype) for sizes in shapes)
    module = getattr(target, "target", target)  # from_torch and from_jax wrap it
    width = getattr(module, "input_size", None)
    if not isinstance(width, int):
        raise OptionError(f"{text}: expected --input with the shape of an input, such as 2,5,3")
    tried = []
    for sizes in ((ROWS, width), (ROWS, STEPS, width)):
        x = rng.standard_normal(sizes).astype(dtype)
        try:
            target.forward(x)
        except Exception as error:  # a forward under test may raise anything
            tried.append(f"{sizes}: {type(error).__name__}: {error}")
        else:
            return (x,)
    raise OptionError(
        f"{text}: expected --input with the shape of an input, such as 2,5,3; tried "
        + "; ".join(tried)
    )
