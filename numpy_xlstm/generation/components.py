"""Components of a ``tokenizer.json`` that are passed to the package ``tokenizers``.

That package trusts its files: with some files it crashes, hangs, or makes a text many times longer.
The components below are used by published tokenizers of xLSTM and similar models, and take time and
memory in proportion to their input. Their options are flags, small numbers and short texts; the
package itself refuses an option of another type. It receives nothing else.
"""

from typing import Any

from numpy_xlstm.documents import parse_json
from numpy_xlstm.errors import OptionError

MAX_ENTRIES = 300_000
"""Largest number of tokens and merges, which take about 250 bytes each."""

MAX_NUMBER = 2**20
"""Bound that ids and other numbers must be below."""

MAX_ADDED, MAX_LENGTH = 1000, 100
"""Largest number of added tokens, and of characters of any text."""

MAX_SEQUENCE = 4
"""Largest number of components that are applied in turn."""

BYTE_LEVEL = "add_prefix_space", "trim_offsets", "use_regex"
METASPACE = "replacement", "prepend_scheme", "split", "add_prefix_space"
ADDED_TOKEN = "id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"

ACCEPTED: dict[str, dict[str, tuple[str, ...]]] = {
    "normalizer": {
        **dict.fromkeys(("NFC", "NFD", "NFKC", "NFKD", "Lowercase"), ()),
        "Prepend": ("prepend",),
        "Replace": ("pattern", "content"),
    },
    "pre_tokenizer": {
        "ByteLevel": BYTE_LEVEL,
        "Metaspace": METASPACE,
        "Whitespace": (),
        "WhitespaceSplit": (),
        "Digits": ("individual_digits",),
        "Split": ("pattern", "behavior", "invert"),
    },
    "decoder": {
        "ByteLevel": BYTE_LEVEL,
        "Metaspace": METASPACE,
        "Replace": ("pattern", "content"),
        "ByteFallback": (),
        "Fuse": (),
        "Strip": ("content", "start", "stop"),
    },
    "model": {
        "WordLevel": ("vocab", "unk_token"),
        "BPE": ("vocab", "merges", "unk_token", "fuse_unk", "byte_fallback", "ignore_merges"),
    },
}
"""Types of each component, with the names of their options."""

SEQUENCES = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers", "decoder": "decoders"}
"""Names of the list of parts in a component of the type "Sequence"."""

NEVER = "dropout", "continuing_subword_prefix", "end_of_word_suffix"
"""Options of a model that must be null or empty."""


def checked_tokenizer(text: Any) -> dict[str, Any]:
    """Return the checked content of a ``tokenizer.json``, without a post-processor."""
    expected = "the content of a tokenizer.json"
    if not isinstance(text, str):
        raise _wrong(expected, type(text).__name__)
    try:
        content = parse_json(text.encode("utf-8"))
    except ValueError as error:
        raise _wrong(expected, error) from None
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        raise _wrong(expected, "no model")
    added = content.get("added_tokens") or []
    if not isinstance(added, list) or len(added) > MAX_ADDED:
        raise _wrong(f"at most {MAX_ADDED:,} added_tokens", added)
    model = {"type": "BPE" if "merges" in content["model"] else "WordLevel"} | content["model"]
    checked = {name: _component(name, content.get(name)) for name in SEQUENCES}
    checked |= {"version": "1.0", "model": _component("model", model)}
    checked["added_tokens"] = [_options("added token", token, ADDED_TOKEN) for token in added]
    return checked


def _wrong(expected: str, got: object) -> OptionError:
    return OptionError(f"tokenizer: expected {expected}; got {str(got)[:80]}")


def _component(place: str, value: Any) -> Any:
    if value is None:
        return None
    kind = value.get("type") if isinstance(value, dict) else None
    if kind == "Sequence" and place in SEQUENCES:
        parts = value.get(SEQUENCES[place])
        if not isinstance(parts, list) or not 0 < len(parts) <= MAX_SEQUENCE:
            raise _wrong(f"a {place} of 1 to {MAX_SEQUENCE} components", parts)
        return {"type": kind, SEQUENCES[place]: [_component(place, part) for part in parts]}
    if not isinstance(kind, str) or kind not in ACCEPTED[place]:
        raise _wrong(f"a {place} of one of the types {', '.join(ACCEPTED[place])}", repr(kind))
    options = _options(f"{place} {kind}", value, ACCEPTED[place][kind])
    if kind == "Replace" and len(options["content"]) > len(options["pattern"]["String"]):
        raise _wrong(f"a {place} Replace that does not lengthen a text", options)
    if kind == "Strip" and (options.get("start") not in (0, 1) or options.get("stop") != 0):
        raise _wrong(f"a {place} Strip of at most one character at the start", options)
    if given := [name for name in NEVER if place == "model" and value.get(name)]:
        raise _wrong(f"a {place} without {given[0]}", value[given[0]])
    return {"type": kind} | options


def _options(place: str, value: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Return the options with these names, checked; a pattern or content must be given."""
    if not isinstance(value, dict) or ({"pattern", "content"} & {*names}) - value.keys():
        raise _wrong(f"{place} with the options {', '.join(names)}", value)
    options = {name: value[name] for name in names if name in value}
    for name, option in options.items():
        if not _is_valid(name, option):
            raise _wrong(f"a valid {name} of {place}", option)
    return options


def _is_valid(name: str, value: Any) -> bool:
    """Accept a vocabulary, merges, or a short text, a flag, None or a number that is not large."""
    if name == "vocab":
        return (
            isinstance(value, dict)
            and len(value) <= MAX_ENTRIES
            and all(map(_is_id, value.values()))
        )
    if name == "merges":  # pairs of texts, each a list or a text with one space
        merges = value if isinstance(value, list) else [None]
        pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in merges)
        return len(merges) <= MAX_ENTRIES and all(
            isinstance(pair, list) and [*map(type, pair)] == [str, str] for pair in pairs
        )
    if name == "pattern":  # a text to find; a regular expression could take exponential time
        text = value.get("String") if isinstance(value, dict) and len(value) == 1 else None
        return isinstance(text, str) and 0 < len(text) <= MAX_LENGTH
    if isinstance(value, str):
        return len(value) <= MAX_LENGTH
    return name != "content" and (value is None or isinstance(value, bool) or _is_id(value))


def _is_id(value: Any) -> bool:
    return type(value) is int and 0 <= value < MAX_NUMBER
