import argparse
import json
from typing import Any

import pytest

from numpy_xlstm.cli import options
from numpy_xlstm.cli.arguments import places, real, whole
from numpy_xlstm.errors import CheckpointError


@pytest.mark.parametrize(
    ("parse", "values", "expected", "refused"),
    [
        (
            whole(1),
            {"12": 12, "1": 1},
            "a whole number from 1 to 1000000000",
            ["0", "-3", "1.5", "many", "", "1e20", str(10**20)],
        ),
        (real(0), {"0": 0.0, "1e-3": 0.001}, "a number at least 0", ["-1", "nan", "inf", "fast"]),
        (real(0, exclusive=True), {"1e-3": 0.001}, "a number above 0", ["0"]),
        (real(0, below=1), {"0.999": 0.999}, "a number at least 0 and below 1", ["1.0"]),
        (
            places,
            {"all": "all", "none": [], "2": [2], "3,1,3": [1, 3]},
            "block numbers such as 1,3, or all, or none",
            ["", "1,", "x", "-1", "1;2", "1.5", "All"],
        ),
    ],
)
def test_types_of_arguments(
    parse: Any, values: dict[str, Any], expected: str, refused: list[str]
) -> None:
    assert {text: parse(text) for text in values} == values
    for text in refused:
        with pytest.raises(argparse.ArgumentTypeError) as raised:
            parse(text)
        assert str(raised.value) == f"expected {expected}; got {text!r}"


@pytest.mark.parametrize(
    "given",
    [
        {"steps": 3},
        {"file": "/a text.txt", "minutes": 0.1, "tbptt": True, "prompt": "--a=\n\x00"},
        {"model": "xlstm", "slstm_at": [], "heads": 6, "dropout": 1e-300, "prompt": ""},
        {"model": "xlstm", "blocks": 2, "slstm_at": [0, 1], "lr": 0.1 + 0.2, "steps": 1},
        {"model": "xlstm", "slstm_at": "all", "width": 6},
        {"model": "xlstm-large", "config": "-a.yaml", "save_every": 3},
        {"cell": "mlstm", "input_gate": "sigmoid", "hidden_size": 10},
        {"from_": "a run", "weight_decay": 0.0, "tokenizer": "bytes"},
    ],
)
def test_a_stored_command_gives_the_same_options(given: dict[str, Any]) -> None:
    begun = options.begin(given)
    words = json.loads(json.dumps(options.stored(begun)))
    assert options.resumed(words, {}) == begun
    assert options.stored(options.resumed(words, {})) == words


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--batch-size=many"], "argument --batch-size: expected a whole number"),
        (["--batch-size=0"], "argument --batch-size: expected a whole number from 1"),
        (["--batch-size"], "argument --batch-size: expected one argument"),
        (["--lr=-1.0"], "argument --lr: expected a number above 0"),
        (["--tbptt=1"], "argument --tbptt: ignored explicit argument '1'"),
        (["--cell=gru"], "argument --cell: invalid choice: 'gru'"),
        (["--slstm-at=0"], "expected only .* got --slstm-at"),
        (["--hel"], "unrecognized arguments: --hel"),
        (["--help"], "unrecognized arguments: --help"),
        (["a", "b"], "unrecognized arguments: b"),
        (["a", "--text=b"], "argument --text: not allowed with argument FILE"),
    ],
)
def test_a_command_that_no_run_can_have(words: list[str], message: str) -> None:
    with pytest.raises(CheckpointError, match=rf"training\.notes\.command: .*{message}"):
        options.resumed(words, {})
