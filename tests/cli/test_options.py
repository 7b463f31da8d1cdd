import json
from typing import Any

import pytest

from numpy_xlstm.cli import options
from numpy_xlstm.errors import CheckpointError


@pytest.mark.parametrize(
    "given",
    [
        {"steps": 3},
        {"texts": ["/a text.txt", "/b"], "minutes": 0.1, "tbptt": True, "prompt": "--a=\n\x00"},
        {"model": "xlstm", "slstm_at": [], "heads": 6, "dropout": 1e-300, "prompt": ""},
        {"model": "xlstm", "blocks": 2, "slstm_at": [0, 1], "lr": 0.1 + 0.2, "steps": 1},
        {"model": "xlstm", "slstm_at": "all", "width": 6},
        {"model": "xlstm", "slstm_at": [1, 3], "weight_decay": 0.5},
        {"model": "xlstm-large", "config": "-a.yaml", "save_every": 3},
        {"cell": "mlstm", "input_gate": "sigmoid", "hidden_size": 10, "patience": 2},
        {"from_": "a run", "weight_decay": 0.0, "tokenizer": "bpe:300", "validation": "/v"},
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
        (["--lr=-1.0"], "argument --lr: expected a number above 0"),
        (["--tbptt=1"], "argument --tbptt: ignored explicit argument '1'"),
        (["--cell=gru"], "argument --cell: invalid choice: 'gru'"),
        (["--slstm-at=0"], "expected only .* got --slstm-at"),
        (["--help"], "unrecognized arguments: --help"),
    ],
)
def test_a_command_that_no_run_can_have(words: list[str], message: str) -> None:
    with pytest.raises(CheckpointError, match=rf"training\.notes\.command: .*{message}"):
        options.resumed(words, {})


def test_block_numbers_are_sorted() -> None:
    assert options.resumed(["--model=xlstm", "--slstm-at=3,1,3"], {}).slstm_at == [1, 3]
