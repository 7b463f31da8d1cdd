"""Threads: BLAS is limited during a request, and the package's own do the work."""

import os
import subprocess
import sys
import threading
import time
from _thread import allocate_lock, start_new_thread
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from threading import get_ident
from typing import Any

import numpy as np
import pytest

from numpy_xlstm.numerics import threads

pytest.importorskip("threadpoolctl", reason="threadpoolctl (the extra 'fast') is not installed")


def blas_threads() -> set[int]:
    return {library["num_threads"] for library in threads.blas_library().info()}


@pytest.fixture
def blas() -> Iterator[Any]:
    """The libraries, with two threads each."""
    library = threads.blas_library()
    with library.limit(limits=2):
        if blas_threads() != {2}:
            pytest.skip("this BLAS cannot have two threads here")
        assert threads.num_threads() == 2
        yield library
        assert blas_threads() == {2}


@pytest.fixture
def started(blas: Any, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A list to which every thread that starts is added."""
    arguments: list[Any] = []

    def start(*args: Any) -> Any:
        arguments.append(args)
        return start_new_thread(*args)

    monkeypatch.setattr(threads, "start_new_thread", start)
    return arguments


def on_two_threads(work: Any) -> list[Any]:
    """Run ``work(helping)`` once on this thread and once on another one, at the same time."""
    here, both = get_ident(), threading.Barrier(2)

    def part(_: int) -> Any:
        both.wait(timeout=60)
        return work(get_ident() != here)

    return threads.parallel_map(part, range(2))


@pytest.mark.usefixtures("blas")
def test_the_last_who_leaves_restores_what_the_first_has_found() -> None:
    """Also if each enters or leaves in a thread of its own."""
    first, second = ExitStack(), ExitStack()

    def in_a_thread(function: Any, *args: Any) -> None:
        thread = threading.Thread(target=function, args=args)
        thread.start()
        thread.join()

    for call in (lambda function, *args: function(*args), in_a_thread):
        call(first.enter_context, threads.one_blas_thread())
        call(second.enter_context, threads.one_blas_thread())
        assert threads.num_threads() == 2
        first.close()
        assert blas_threads() == {1}
        call(second.close)
        assert blas_threads() == {2}


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 10])
def test_slices_are_about_equal_and_none_is_empty(size: int) -> None:
    slices = threads.spread(size, 4)
    assert len(slices) == max(1, min(size, 4))
    widths = [len(range(size)[part]) for part in slices]
    assert max(widths) - min(widths) <= 1
    assert [n for part in slices for n in range(size)[part]] == list(range(size))


@pytest.mark.parametrize("axes", [2, 3, 4])
def test_a_product_in_blocks_is_the_product(
    axes: int, started: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((37, *(2, 3)[: axes - 2], 5)), rng.standard_normal((5, 4))
    whole = threads.matmul(a, b)
    monkeypatch.setattr(threads, "WORTH_THREADS", 0)
    blocks: list[int] = []
    product = np.matmul

    def counted(x: Any, y: Any, out: Any) -> Any:
        blocks.append(len(x))
        return product(x, y, out)

    monkeypatch.setattr(np, "matmul", counted)
    assert np.abs(threads.matmul(a, b) - whole).max() < 1e-14
    assert sorted(blocks) == [9, 9, 9, 10]
    assert len(started) == 1


@pytest.mark.usefixtures("started")
@pytest.mark.parametrize("strided", [False, True])
def test_a_product_with_more_columns_than_rows(
    strided: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((3, 5)), rng.standard_normal((37, 5)).T
    out = np.full((3, 40), np.nan)[:, 1:38] if strided else None
    monkeypatch.setattr(threads, "WORTH_THREADS", 0)
    product = threads.matmul(a, b, out)
    assert np.abs(product - np.einsum("ij,jk->ik", a, b)).max() < 1e-14
    assert product is out or not strided


@pytest.mark.usefixtures("blas")
def test_pieces_get_as_many_threads_as_blas_has_and_no_more() -> None:
    seen: set[int] = set()
    both = threading.Barrier(2)

    def work(n: int) -> int:
        both.wait(timeout=60)  # two at a time: 20 pieces never need a third
        seen.add(get_ident())
        assert threads.num_threads() == 1
        return n * n

    assert threads.parallel_map(work, range(20)) == [n * n for n in range(20)]
    assert len(seen) == 2


def test_pieces_of_a_piece_are_done_in_its_thread(started: list[Any]) -> None:
    def names(_: int) -> set[int]:
        return set(threads.parallel_map(lambda _: get_ident(), range(3)))

    with threads.one_blas_thread():
        assert all(len(each) == 1 for each in threads.parallel_map(names, range(4)))
    assert len(started) == 1
    assert len(threads.parallel_map(names, range(1))[0]) <= 2
    assert len(started) == 2  # a single piece may use several threads


@pytest.mark.usefixtures("blas")
def test_every_thread_has_the_context_of_the_caller() -> None:
    with np.errstate(divide="raise"):
        assert on_two_threads(lambda _: np.geterr()["divide"]) == ["raise"] * 2


@pytest.mark.usefixtures("blas")
@pytest.mark.parametrize("error", [ZeroDivisionError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("helper_fails", [True, False])
def test_an_error_of_any_thread_is_raised_when_the_others_have_stopped(
    helper_fails: bool, error: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []

    def work(helping: bool) -> None:
        if helping == helper_fails:
            raise error
        time.sleep(0.05)
        done.append(blas_threads())

    class Lock:
        """A lock whose ``acquire`` fails after 30 seconds."""

        def __init__(self) -> None:
            self.lock = allocate_lock()
            self.release = self.lock.release

        def acquire(self) -> None:
            assert self.lock.acquire(timeout=30)

    monkeypatch.setattr(threads, "allocate_lock", Lock)
    with pytest.raises(error):
        on_two_threads(work)
    assert done == [{1}]


@pytest.mark.usefixtures("blas")
def test_after_an_error_no_thread_takes_another_part() -> None:
    taken = []

    def work(n: int) -> None:
        taken.append(n)
        time.sleep(0.01)
        assert get_ident() != here

    here = get_ident()
    with pytest.raises(AssertionError):
        threads.parallel_map(work, range(1000))
    assert len(taken) < 10


def test_without_threads_the_caller_does_all(blas: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threads, "start_new_thread", refuse)
    assert threads.parallel_map(abs, range(-9, 0)) == list(range(9, 0, -1))


EVENTS = ("call", "return", "c_return")
"""Events of ``sys.setprofile`` at which the interpreter handles signals."""


@pytest.mark.usefixtures("blas")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("parts", [1, 3])
def test_an_interrupt_at_any_point_leaves_nothing_behind(parts: int) -> None:
    a = np.random.default_rng(0).standard_normal((parts, 30, 30))
    expected = [(matrix @ matrix).tobytes() for matrix in a]

    def results() -> list[bytes]:
        return threads.parallel_map(lambda matrix: (matrix @ matrix).tobytes(), list(a))

    def interrupted_at(point: int) -> bool:
        """Raise KeyboardInterrupt at event number ``point``; return whether it occurred."""
        events = 0

        def interrupt(frame: Any, event: str, argument: Any) -> None:
            nonlocal events
            events += event in EVENTS
            if events > point:
                raise KeyboardInterrupt

        with suppress(KeyboardInterrupt):
            sys.setprofile(interrupt)
            results()
            sys.setprofile(None)
        return events > point

    points = 0
    while interrupted_at(points):
        points += 1
        assert blas_threads() == {2}, points
        assert results() == expected
        assert blas_threads() == {2}, points
    assert points > 20


def test_a_caller_that_ended_without_leaving_does_not_count(
    blas: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This happens after two interrupts, if the second one interrupts ``leave``."""
    with monkeypatch.context() as patch:
        patch.setattr(threads, "leave", lambda caller: None)
        caller = threads.one_blas_thread()
        caller.__enter__()
        del caller
    assert blas_threads() == {1}
    with threads.one_blas_thread():
        pass
    assert blas_threads() == {2}


PREPARE = """
import faulthandler, os, signal, threading, time
import numpy as np
from numpy_xlstm import LSTM
from numpy_xlstm.numerics import threads
rng = np.random.default_rng(0)
lstm, x = LSTM(32, 128, rng=rng), rng.standard_normal((16, 33, 32))
def results():
    y, _, cache = lstm.forward(x)
    dx, _, grads = lstm.backward(y, cache)
    return [array.tobytes() for array in (y, dx, *grads.values())]
expected = results()
faulthandler.dump_traceback_later(550, exit=True)
"""
"""Beginning of a program in which BLAS has two threads, and whose results need them."""

FORKS = """
ends = threading.Event()
def compute():
    while not ends.is_set():
        assert results() == expected
others = [threading.Thread(target=compute) for _ in range(2)]
for other in others:
    other.start()
for _ in range(NUMBER):
    time.sleep(0.003)
    child = os.fork()
    if not child:
        signal.alarm(500)
        os._exit(not (results() == expected and set(threads.counts()) == {2}))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
ends.set()
for other in others:
    other.join()
"""

END_OF_MAIN = """
def compute():
    while threading.main_thread().is_alive():
        time.sleep(0.001)
    for _ in range(NUMBER):
        assert results() == expected
    os.write(1, b"computed\\n")
for _ in range(2):
    threading.Thread(target=compute).start()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize(
    ("program", "number", "printed"),
    [(FORKS, 5, ""), (END_OF_MAIN, 2, "computed\ncomputed\n")],
    ids=["forks", "end of main"],
)
def test_no_hang(program: str, number: int, printed: str, trials: int) -> None:
    text = f"NUMBER = {number * trials}\n{PREPARE}{program}"
    command = [sys.executable, "-W", "ignore", "-c", text]
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "2"}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert (run.returncode, run.stdout, run.stderr) == (0, printed, "")
