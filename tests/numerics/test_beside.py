"""A second thread changes when work is done, and nothing else."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import copy_context
from threading import Event, get_ident
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import LSTM, second_thread, sLSTM
from numpy_xlstm.cells import scan as scanning
from numpy_xlstm.errors import OptionError
from numpy_xlstm.numerics import beside, threads
from numpy_xlstm.numerics.beside import ALONE, Alone, Beside
from tests.variants import assert_close


@pytest.fixture
def threadpoolctl() -> None:
    pytest.importorskip("threadpoolctl", reason="the extra 'threads' is not installed")


@contextmanager
def a_helper() -> Iterator[Beside]:
    helper = Beside()
    thread = threads.started(helper.work)
    assert thread is not None
    yield helper
    helper.end()
    thread.join()


def test_results_come_in_order() -> None:
    with a_helper() as beside:
        for helper in (ALONE, beside):
            assert list(helper.ahead(lambda n: n * n, range(20))) == [n * n for n in range(20)]


def test_what_is_behind_stays_in_order() -> None:
    with a_helper() as beside:
        for helper in (ALONE, beside):
            done: list[int] = []
            free: set[int] = set()
            for n in range(20):
                helper.behind(done.append, n)
                helper.anywhere(free.add, n)
            helper.finish()
            assert done == list(range(20))
            assert free == set(range(20))


def test_work_goes_on_in_the_other_thread() -> None:
    """The caller waits for nothing: the event is set after the work has begun to wait for it."""
    event, seen = Event(), []

    def work() -> None:
        event.wait(10)
        seen.append(get_ident())

    with a_helper() as helper:
        helper.behind(work)
        assert not seen
        event.set()
        helper.finish()
    assert len(seen) == 1
    assert seen[0] != get_ident()


def test_where_the_thread_lags_the_caller_does_what_was_said_last() -> None:
    busy, here = Event(), []
    caller = get_ident()

    def work(n: int) -> None:
        if get_ident() == caller:
            here.append(n)
            busy.set()

    with a_helper() as helper:
        helper.behind(busy.wait, 10)
        for n in range(1, beside.WAITING):
            helper.anywhere(work, n)
        assert not here
        helper.anywhere(work, -1)
        helper.finish()
    assert here[0] == beside.WAITING - 1


def test_work_that_has_an_order_is_not_taken_back() -> None:
    busy, done = Event(), []
    with a_helper() as helper:
        helper.behind(busy.wait, 10)
        helper.behind(lambda: done.append(get_ident()))
        helper.anywhere(busy.set)
        helper.finish()
    assert len(done) == 1
    assert done != [get_ident()]


def test_the_caller_makes_the_next_result_while_the_thread_makes_the_first() -> None:
    begun, busy, caller = Event(), Event(), get_ident()
    made: list[tuple[int, bool]] = []

    def parts() -> Iterator[int]:
        yield 0
        begun.wait(10)
        yield from range(1, 6)

    def work(n: int) -> int:
        begun.set()
        if n == 0:
            busy.wait(10)
        made.append((n, get_ident() == caller))
        busy.set()
        return n

    with a_helper() as helper:
        assert list(helper.ahead(work, parts())) == list(range(6))
    assert made[0] == (1, True)
    assert (0, False) in made


@pytest.mark.parametrize("how", ["ahead", "behind", "anywhere"])
def test_errors_reach_the_caller(how: str) -> None:
    def fail(_: int) -> None:
        raise ZeroDivisionError

    def use(helper: Alone) -> None:
        if how == "ahead":
            list(helper.ahead(fail, range(3)))
        else:
            getattr(helper, how)(fail, 0)
            helper.finish()

    for _ in range(20):  # whoever comes first to it
        with a_helper() as helper, pytest.raises(ZeroDivisionError):
            use(helper)


def test_after_an_error_of_the_caller_nothing_is_left(threadpoolctl: None) -> None:
    done: list[int] = []

    def fail() -> None:
        with beside.beside(beside.WORTH) as helper:
            assert isinstance(helper, Beside)
            helper.behind(done.append, 1)
            helper.behind(int, "no number")
            helper.anywhere(done.append, 2)
            raise KeyError

    with second_thread():
        with pytest.raises(KeyError):
            fail()
        before = list(done)
        with beside.beside(beside.WORTH) as helper:
            helper.behind(done.append, 3)
        assert done == [*before, 3]


def test_the_callers_error_state_is_kept(threadpoolctl: None) -> None:
    with second_thread(), np.errstate(over="raise"), beside.beside(beside.WORTH) as helper:
        assert list(helper.ahead(lambda _: np.geterr()["over"], range(3))) == ["raise"] * 3


def test_blas_is_limited_in_the_context_and_left_as_it_was(threadpoolctl: None) -> None:
    import threadpoolctl as control

    def of_blas() -> set[int]:
        return {n["num_threads"] for n in control.threadpool_info() if n["user_api"] == "blas"}

    with control.threadpool_limits(2, user_api="blas"):
        before = of_blas(), threads.num_threads()
        with second_thread():
            assert 1 in of_blas()
            assert threads.num_threads() == before[1]
            assert threads.parallel_map(lambda _: threads.num_threads(), [1, 2]) == [1, 1]
            with second_thread():  # is the one that there is
                assert 1 in of_blas()
        assert (of_blas(), threads.num_threads()) == before


def test_one_thread_at_a_time_can_have_it(threadpoolctl: None) -> None:
    def another() -> str:
        try:
            with second_thread():
                return "taken"
        except OptionError as error:
            return str(error)

    with second_thread(), ThreadPoolExecutor(1) as pool:
        assert pool.submit(another).result().startswith("second_thread: expected no other thread")
    assert another() == "taken"


@pytest.mark.parametrize(
    ("lacking", "message"),
    [
        ({"_controller": lambda: None}, "expected threadpoolctl, .* extra 'threads'"),
        ({"started": lambda work: None}, "expected a thread that can be started; got none"),
    ],
)
def test_what_a_second_thread_lacks_is_named(
    lacking: dict[str, Any], message: str, threadpoolctl: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, replacement in lacking.items():
        monkeypatch.setattr(threads if name == "_controller" else beside, name, replacement)
    with pytest.raises(OptionError, match=f"second_thread: {message}"), second_thread():
        pass


def test_a_thread_with_a_copy_of_the_context_has_no_helper(threadpoolctl: None) -> None:
    def another() -> bool:
        with beside.beside(beside.WORTH) as helper:
            return helper is ALONE

    with second_thread(), ThreadPoolExecutor(1) as pool:
        assert pool.submit(copy_context().run, another).result()
        assert not another()


def test_small_work_stays_alone(threadpoolctl: None) -> None:
    with second_thread(), beside.beside(beside.WORTH - 1) as helper:
        assert helper is ALONE
    with beside.beside(beside.WORTH) as helper:
        assert helper is ALONE


LAYERS = [
    LSTM(5, 6, rng=np.random.default_rng(1)),
    sLSTM(5, 6, 3, rng=np.random.default_rng(2)),
    sLSTM(5, 6, 2, forget_gate="exp", rng=np.random.default_rng(3)),
]


@pytest.mark.parametrize("with_lengths", [False, True])
@pytest.mark.parametrize("T", [0, 1, 13])
@pytest.mark.parametrize("layer", LAYERS, ids=["LSTM", "sLSTM", "sLSTM-exp"])
def test_cells_are_the_same_bit_for_bit(
    layer: Any, T: int, with_lengths: bool, threadpoolctl: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outputs and every gradient, over several blocks of steps, the first one shorter."""
    monkeypatch.setattr(beside, "WORTH", 1)
    monkeypatch.setattr(scanning, "SHORTEST", 3)
    monkeypatch.setattr(scanning, "LONGEST", 3)
    rng = np.random.default_rng(T)
    x, dy = rng.standard_normal((3, T, 5)), rng.standard_normal((3, T, 6))
    state = tuple(rng.standard_normal((3, 6)) for _ in layer.state_type._fields)
    dstate = tuple(rng.standard_normal((3, 6)) for _ in state)
    if len(state) == 4:
        state[2][...] = np.abs(state[2]) + 1
    lengths = np.array([T, T // 2, 0]) if with_lengths else None

    def run() -> Any:
        y, after, cache = layer.forward(x, state, lengths=lengths)
        dx, dstate0, grads = layer.backward(dy, cache, dstate)
        return y, after, dx, dstate0, tuple(grads.values())

    with second_thread():
        together = run()
    assert_close(together, run(), 0)


def test_numpys_library_is_found_beside_that_of_scipy(threadpoolctl: None) -> None:
    """SciPy's wheels bring a BLAS library of their own, which an exact GELU loads."""
    code = "import scipy.linalg; from numpy_xlstm.numerics import threads; "
    code += "print(threads.one_blas_thread().__enter__())"
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "True\n"


def test_calls_after_the_main_thread_has_ended(threadpoolctl: None) -> None:
    """No thread is wanted where none can be started any more."""
    code = """
import atexit, threading
import numpy as np
from numpy_xlstm import LSTM
from numpy_xlstm.numerics import threads
layer, x = LSTM(2, 2), np.ones((8, 64, 2))
def work():
    layer.forward(x)
    print(threads.parallel_map(lambda n: -n, [1, 2]))
def work_later():
    threading.main_thread().join()
    work()
threading.Thread(target=work_later).start()
atexit.register(work)
"""
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "2"}
    out = subprocess.check_output([sys.executable, "-c", code], text=True, env=environment)
    assert out == "[-1, -2]\n" * 2
