"""Threads: BLAS is limited during a request, and the package's own do the work."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest

from numpy_xlstm.numerics import threads

pytest.importorskip("threadpoolctl", reason="threadpoolctl (the extra 'fast') is not installed")


@pytest.fixture
def blas() -> Iterator[Any]:
    """The libraries, with two threads each."""
    library = threads.blas_library()
    with library.limit(limits=2):
        if threads.num_threads() != 2:
            pytest.skip("this BLAS cannot have two threads here")
        yield library


def test_the_last_who_leaves_restores_what_the_first_has_found(blas: Any) -> None:
    first, second = ExitStack(), ExitStack()
    first.enter_context(threads.one_blas_thread())
    second.enter_context(threads.one_blas_thread())
    first.close()
    assert [each.num_threads for each in threads.blas_libraries()] == [1] * len(blas.info())
    second.close()
    assert threads.num_threads() == 2


@pytest.mark.usefixtures("blas")
def test_a_product_in_blocks_is_the_product(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((37, 5)), rng.standard_normal((5, 4))
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


def test_a_child_process_has_threads_of_its_own() -> None:
    code = """
import os
from numpy_xlstm.numerics import threads
with threads.blas_library().limit(limits=2):
    assert threads.parallel_map(abs, range(-9, 0)) == list(range(9, 0, -1))
    child = os.fork()
    if not child:
        os._exit(threads.parallel_map(abs, [-3, -4]) != [3, 4])
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, timeout=60)


@pytest.mark.usefixtures("blas")
def test_pieces_get_as_many_threads_as_blas_has_and_no_more() -> None:
    seen: set[str] = set()
    both = threading.Barrier(2)

    def work(n: int) -> int:
        both.wait(timeout=60)  # two at a time: 20 pieces never need a third
        seen.add(threading.current_thread().name)
        assert threads.num_threads() == 1
        return n * n

    assert threads.parallel_map(work, range(20)) == [n * n for n in range(20)]
    assert len(seen) == 2


@pytest.mark.usefixtures("blas")
def test_pieces_of_a_piece_are_done_in_its_thread() -> None:
    def names(_: int) -> set[str]:
        return set(threads.parallel_map(lambda _: threading.current_thread().name, range(3)))

    with threads.one_blas_thread():
        assert all(len(each) == 1 for each in threads.parallel_map(names, range(4)))
