import argparse
from typing import Any

import pytest

from numpy_xlstm.cli import options
from numpy_xlstm.cli.arguments import places, real, whole
from numpy_xlstm.errors import CheckpointError


def test_whole_numbers() -> None:
    assert whole(1)("12") == 12
    assert whole(0)("0") == 0
    for text in ("0", "-3", "1.5", "many", "", "1e20", str(10**20)):
        with pytest.raises(argparse.ArgumentTypeError) as raised:
            whole(1)(text)
        assert str(raised.value) == f"expected a whole number from 1 to 1000000000; got {text!r}"


def test_real_numbers() -> None:
    assert real(0)("0") == 0.0
    assert real(0, exclusive=True)("1e-3") == 0.001
    for text in ("-1", "nan", "inf", "fast"):
        with pytest.raises(argparse.ArgumentTypeError) as raised:
            real(0)(text)
        assert str(raised.value) == f"expected a number at least 0; got {text!r}"
    with pytest.raises(argparse.ArgumentTypeError, match="expected a number above 0; got '0'"):
        real(0, exclusive=True)("0")
    assert real(0, below=1)("0.999") == 0.999
    with pytest.raises(argparse.ArgumentTypeError, match=r"at least 0 and below 1; got '1\.0'"):
        real(0, below=1)("1.0")


def test_block_numbers() -> None:
    assert [places(text) for text in ("all", "none", "2", "3,1,3")] == ["all", [], [2], [1, 3]]
    for text in ("", "1,", "x", "-1", "1;2", "1.5", "All"):
        with pytest.raises(argparse.ArgumentTypeError) as raised:
            places(text)
        expected = "expected block numbers such as 1,3, or all, or none"
        assert str(raised.value) == f"{expected}; got {text!r}"


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"batch_size": "16"}, "batch_size"),
        ({"batch_size": None}, "batch_size"),
        ({"batch_size": True}, "batch_size"),
        ({"lr": -1.0}, "lr"),
        ({"tbptt": 1}, "tbptt"),
        ({"cell": "gru"}, "cell"),
        ({"cell": ["slstm"]}, "cell"),
        ({"file": 3}, "file"),
        ({"slstm_at": [0]}, ""),
        ({"seed": {}}, "seed"),
    ],
)
def test_options_that_no_run_can_have(change: dict[str, Any], name: str) -> None:
    known = options.stored(options.begin({"steps": 3}))
    assert options.go_on(known, {}).steps == 3
    with pytest.raises(CheckpointError, match=f"options.*{name}"):
        options.go_on(known | change, {})
