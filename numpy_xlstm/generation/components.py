"""Validation of a ``tokenizer.json``, before the package ``tokenizers`` reads it.

That package trusts its files: with some files it crashes, hangs, or makes a text many times longer.
The accepted components are used by published tokenizers of xLSTM and similar models, take memory in
proportion to their input, and are limited in size. The package receives only values that were
checked here.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from numpy_xlstm.documents import parse_json
from numpy_xlstm.errors import OptionError

MAX_ENTRIES = 300_000
"""Largest number of tokens and merges, which take about 250 bytes each."""

MAX_ID = 2**20
"""Bound that ids must be below."""

MAX_ADDED, MAX_LENGTH = 1000, 100
"""Largest number of added tokens, and of characters of each."""

MAX_SEQUENCE = 4
"""Largest number of components that are applied in turn."""

Check = Callable[[Any], bool]


def _text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_LENGTH


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _nothing(value: Any) -> bool:
    return value is None or value == ""


def _id(value: Any) -> bool:
    return type(value) is int and 0 <= value < MAX_ID


def _pattern(value: Any) -> bool:
    """Accept a text; a regular expression could take exponential time."""
    return isinstance(value, dict) and value.keys() == {"String"} and _text(value["String"])


def _vocabulary(value: Any) -> bool:
    return isinstance(value, dict) and len(value) <= MAX_ENTRIES and all(map(_id, value.values()))


def _merges(value: Any) -> bool:
    def pair(each: Any) -> bool:
        parts = each.split(" ") if isinstance(each, str) else each
        return isinstance(parts, list) and [*map(type, parts)] == [str, str]

    return isinstance(value, list) and len(value) <= MAX_ENTRIES and all(map(pair, value))


def _optional(check: Check) -> Check:
    return lambda value: value is None or check(value)


def _choice(*values: Any) -> Check:
    return lambda value: any(type(value) is type(each) and value == each for each in values)


Components = dict[str, dict[str, Check]]

BYTE_LEVEL: dict[str, Check] = dict.fromkeys(
    ("add_prefix_space", "trim_offsets", "use_regex"), _flag
)
METASPACE: dict[str, Check] = {
    "replacement": _choice("▁"),
    "prepend_scheme": _choice("always", "never", "first"),
    "split": _flag,
    "add_prefix_space": _flag,
}
REPLACE: dict[str, Check] = {"pattern": _pattern, "content": lambda v: v == "" or _text(v)}
SPLIT = "Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"
NORMALIZERS: Components = {
    **{name: {} for name in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase")},
    "Prepend": {"prepend": _text},
    "Replace": REPLACE,
}
PRE_TOKENIZERS: Components = {
    "ByteLevel": BYTE_LEVEL,
    "Metaspace": METASPACE,
    "Whitespace": {},
    "WhitespaceSplit": {},
    "Digits": {"individual_digits": _flag},
    "Split": {"pattern": _pattern, "behavior": _choice(*SPLIT), "invert": _flag},
}
DECODERS: Components = {
    "ByteLevel": BYTE_LEVEL,
    "Metaspace": METASPACE,
    "Replace": REPLACE,
    "ByteFallback": {},
    "Fuse": {},
    "Strip": {"content": _choice(" "), "start": _choice(0, 1), "stop": _choice(0)},
}
MODELS: Components = {
    "WordLevel": {"vocab": _vocabulary, "unk_token": _text},
    "BPE": {
        "vocab": _vocabulary,
        "merges": _merges,
        "dropout": _nothing,
        "unk_token": _optional(_text),
        "continuing_subword_prefix": _nothing,
        "end_of_word_suffix": _nothing,
        "fuse_unk": _flag,
        "byte_fallback": _flag,
        "ignore_merges": _flag,
    },
}
ADDED: dict[str, Check] = {
    "id": _id,
    "content": _text,
    **dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), _flag),
}


def checked_tokenizer(text: Any) -> tuple[dict[str, Any], int | None]:
    """Return the checked content of a ``tokenizer.json``, and the special token before a text.
    """
    if not isinstance(text, str):
        raise _wrong("the content of a tokenizer.json", type(text).__name__)
    try:
        said = parse_json(text.encode("utf-8"))
    except ValueError as error:
        raise _wrong("the content of a tokenizer.json", error) from None
    if not isinstance(said, dict) or not isinstance(said.get("model"), dict):
        raise _wrong("the content of a tokenizer.json", "no model")
    added = said.get("added_tokens") or []
    if not isinstance(added, list) or len(added) > MAX_ADDED:
        raise _wrong(f"at most {MAX_ADDED:,} added_tokens", added)
    model = {"type": "BPE" if "merges" in said["model"] else "WordLevel"} | said["model"]
    checked = {
        "version": "1.0",
        "added_tokens": [_fields("added_tokens", each, ADDED) for each in added],
        "normalizer": _component("normalizer", said.get("normalizer"), NORMALIZERS),
        "pre_tokenizer": _component("pre_tokenizer", said.get("pre_tokenizer"), PRE_TOKENIZERS),
        "decoder": _component("decoder", said.get("decoder"), DECODERS),
        "model": _component("model", model, MODELS),
    }
    return checked, _first_token(said.get("post_processor"))


def _wrong(expected: str, got: object) -> OptionError:
    return OptionError(f"tokenizer: expected {expected}; got {str(got)[:80]}")


def _component(place: str, said: Any, known: Components) -> Any:
    """Return a component, or a sequence of components, with only the known fields."""
    if said is None:
        return None
    kind = said.get("type") if isinstance(said, dict) else None
    parts = {"normalizer": "normalizers", "pre_tokenizer": "pretokenizers", "decoder": "decoders"}
    if kind == "Sequence" and place in parts:
        each = said.get(parts[place])
        if not isinstance(each, list) or not 0 < len(each) <= MAX_SEQUENCE:
            raise _wrong(f"a {place} of 1 to {MAX_SEQUENCE} components", each)
        return {"type": kind, parts[place]: [_component(place, one, known) for one in each]}
    if not isinstance(kind, str) or kind not in known:
        raise _wrong(f"a {place} of one of the types {', '.join(known)}", repr(kind))
    found = _fields(f"{place} {kind}", said, known[kind])
    if kind == "Replace" and len(found["content"]) > len(found["pattern"]["String"]):
        raise _wrong(f"a {place} Replace that does not lengthen a text", found)
    return {"type": kind} | found


def _fields(place: str, said: Any, known: Mapping[str, Check]) -> dict[str, Any]:
    if not isinstance(said, dict):
        raise _wrong(f"{place} with the fields {', '.join(known)}", said)
    for name, check in known.items():
        if name in said and not check(said[name]):
            raise _wrong(f"a valid {name} of {place}", said[name])
    needed = {"pattern", "content"} & known.keys()
    if missing := needed - said.keys():
        raise _wrong(f"{place} with {', '.join(sorted(missing))}", list(said))
    return {name: said[name] for name in known if name in said}


def _first_token(said: Any) -> int | None:
    """Return the id of the special token that a post-processor puts before a text."""
    kind = said.get("type") if isinstance(said, dict) else said
    if kind in (None, "ByteLevel"):
        return None
    try:
        if kind == "Sequence":
            found = map(_first_token, said["processors"])
            return next((token for token in found if token is not None), None)
        if kind == "TemplateProcessing":
            name = said["single"][0].get("SpecialToken", {}).get("id")
            token = None if name is None else said["special_tokens"][name]["ids"][0]
            if token is None or _id(token):
                return token
    except (LookupError, TypeError, AttributeError):
        pass
    raise _wrong("a valid post_processor of type ByteLevel or TemplateProcessing", json.dumps(said))
