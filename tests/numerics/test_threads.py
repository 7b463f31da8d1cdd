"""BLAS threads are limited during a request, and restored after the last one."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

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


@pytest.mark.usefixtures("blas")
def test_the_last_who_leaves_restores_what_the_first_has_found() -> None:
    first, second = ExitStack(), ExitStack()
    first.enter_context(threads.one_blas_thread())
    second.enter_context(threads.one_blas_thread())
    first.close()
    assert threads.num_threads() == 1
    second.close()
    assert threads.num_threads() == 2


@pytest.mark.usefixtures("blas")
def test_few_multiplications_get_one_thread_and_many_get_all() -> None:
    with threads.suited_to(threads.WORTH_BLAS_THREADS - 1):
        assert threads.num_threads() == 1
    with threads.suited_to(threads.WORTH_BLAS_THREADS):
        assert threads.num_threads() == 2
    assert threads.num_threads() == 2


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
def test_pieces_within_one_thread_are_done_in_this_thread() -> None:
    with threads.one_blas_thread():
        names = threads.parallel_map(lambda _: threading.current_thread().name, range(3))
    assert set(names) == {threading.current_thread().name}
