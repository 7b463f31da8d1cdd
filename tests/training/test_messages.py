"""Messages between processes arrive whole or not at all."""

import io

import numpy as np

from numpy_xlstm.training.messages import receive, send

ARRAYS = {
    "tokens": np.array([[1, -2], [3, 4]]),
    "none": np.empty((0, 3), np.float32),
    "strided": np.arange(6.0)[::2],
}


def written() -> bytes:
    stream = io.BytesIO()
    send(stream, {"loss": 0.1, "seed": None}, ARRAYS)
    return stream.getvalue()


def test_a_message_comes_as_it_went() -> None:
    stream = io.BytesIO(written() * 2)
    for _ in range(2):
        message = receive(stream)
        assert message is not None
        facts, arrays = message
        assert facts == {"loss": 0.1, "seed": None}
        assert arrays.keys() == ARRAYS.keys()
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(arrays[name], array)
            assert arrays[name].dtype == array.dtype
    assert receive(stream) is None


def test_a_message_cut_off_anywhere_is_none() -> None:
    data = written()
    for length in range(len(data)):
        assert receive(io.BytesIO(data[:length])) is None
