"""Errors and interruptions of commands."""

import signal
from collections.abc import Callable
from typing import Any

import pytest

from numpy_xlstm.training import train_step


def error(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the message of an error, the only line of the output."""
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("numpy-xlstm: error: ")
    assert err.count("\n") == 1
    return err.removeprefix("numpy-xlstm: error: ").rstrip()


def interrupting(at: int, times: int = 1) -> Callable[..., Any]:
    """Make a training step that is interrupted, once or several times, at one of its calls."""
    calls = 0

    def step(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == at:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
        return train_step(*args, **options)

    return step
