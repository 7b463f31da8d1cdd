import re
from pathlib import Path

import numpy as np
import pytest

from numpy_xlstm.cli.display import save_picture, smoothed

pytest.importorskip("matplotlib")


def test_smoothing_by_hand() -> None:
    near = np.exp(-1 / 2)  # a Gaussian with a deviation of one step, that of a span of four

    found = smoothed(np.array([4.0, 0.0]), span=4.0)
    assert found == pytest.approx([4 / (1 + near), 4 * near / (1 + near)])
    assert smoothed(np.array([4.0, 1.0, 3.0]), span=0.1).tolist() == [4, 1, 3]
    assert smoothed(np.full(99, 2.5), span=7.0) == pytest.approx(np.full(99, 2.5))


@pytest.mark.parametrize("validated", [False, True])
def test_what_the_picture_shows(validated: bool) -> None:
    entries = [{"step": n, "bits": 5 / n} for n in range(1, 30)]
    if validated:
        entries[9]["validation"] = 3.0
    save_picture(Path("loss.svg"), entries, "bits", "bits/char", {"unigram": 4.5, "bigram": 3.5})
    svg = Path("loss.svg").read_text("utf-8")
    texts = set(re.findall(r"<!-- (.*?) -->", svg))
    assert {"step", "bits/char", "unigram", "bigram", "training, smoothed"} <= texts
    assert ("validation" in texts) == validated


def test_nothing_to_draw() -> None:
    save_picture(Path("loss.svg"), [], "bits", "bits/char", {})
    assert list(Path().iterdir()) == []
