from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from numpy_xlstm.generation import StreamDecoder
from numpy_xlstm.layers.embedding import IndexArray

WORDS = st.text(alphabet="ab", min_size=1, max_size=4)


class Pieces:
    """Tokenizer whose ids are the pieces of a text."""

    def __init__(self, pieces: list[str]) -> None:
        self.pieces, self.size = pieces, len(pieces)

    def decode(self, ids: IndexArray) -> str:
        return "".join(self.pieces[n] for n in ids)


def run(stop: list[str], pieces: list[str]) -> tuple[list[str], bool]:
    decoder = StreamDecoder(cast(Any, Pieces(pieces)), stop)
    return [*map(decoder.push, range(len(pieces))), decoder.flush()], decoder.stopped


def first_stop(text: str, stop: list[str]) -> int | None:
    """Return the start of the stop string that ends first, the longest of several."""
    for end in range(len(text) + 1):
        ending = [s for s in stop if text[:end].endswith(s)]
        if ending:
            return end - max(map(len, ending))
    return None


@given(st.lists(st.text(alphabet="ab", max_size=5), max_size=8), st.lists(WORDS, max_size=3))
def test_the_text_ends_before_the_first_stop_string_however_it_is_cut(
    pieces: list[str], stop: list[str]
) -> None:
    whole = "".join(pieces)
    given_out, stopped = run(stop, pieces)
    assert "".join(given_out) == whole[: first_stop(whole, stop)]
    assert stopped == (first_stop(whole, stop) is not None)


@given(st.text(alphabet="ab", max_size=12), st.lists(WORDS, min_size=1, max_size=3))
def test_exactly_what_may_become_a_stop_string_is_held_back(text: str, stop: list[str]) -> None:
    decoder, given_out = StreamDecoder(cast(Any, Pieces(list(text))), stop), ""
    for end in range(1, len(text) + 1):
        given_out += decoder.push(end - 1)
        if decoder.stopped:
            break
        beginnings = {s[:n] for s in stop for n in range(len(s))}
        held = max(n for n in range(end + 1) if text[end - n : end] in beginnings)
        assert given_out == text[: end - held]
