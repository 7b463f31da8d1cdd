"""A ``tokenizer.json`` from others works, or is one error, within limits of time and memory."""

import copy
import json
import math
import resource
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from numpy_xlstm.generation import HuggingFaceTokenizer
from tests.reliability.children import ask
from tests.reliability.hostile import ODD, replaced
from tests.reliability.loads import use_tokenizer

pytest.importorskip("tokenizers")

EXTRA = 100 << 20

MOST = 100
"""Limit for the processor time of a tokenizer, relative to that of a small one."""


def check(*texts: str) -> list[str]:
    """Use tokenizers in a separate process; return their errors."""
    answer = ask(use_in_proportion, texts)
    assert answer.code == 0, (answer, [text[:2000] for text in texts])
    for text, outcome in zip(texts, answer.said, strict=True):
        assert outcome.memory <= 2 * len(text.encode()) + EXTRA, text[:2000]
    return [outcome.result for outcome in answer.said]


def use_in_proportion(texts: tuple[str, ...]) -> list[Any]:
    """Use a small tokenizer, and then these; the system ends the process if one takes long."""
    before = time.process_time()
    use_tokenizer(json.dumps(fallback()))
    small, outcomes = time.process_time() - before, []
    for text in texts:
        limit = math.ceil(time.process_time() + MOST * small)
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.RLIM_INFINITY))
        outcomes.append(use_tokenizer(text))
    return outcomes


def byte_symbols() -> list[str]:
    """Return the characters that represent bytes in a byte-level tokenizer."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return [*map(chr, shown), *(chr(256 + n) for n in range(256 - len(shown)))]


def base(model: dict[str, Any], **parts: Any) -> dict[str, Any]:
    special = {"id": 0, "content": "<s>", "special": True, "normalized": False}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
    rest = dict.fromkeys(("truncation", "padding", "normalizer", "pre_tokenizer", "decoder"))
    return {
        **rest,
        "version": "1.0",
        "added_tokens": [special | flags],
        "model": model,
        **parts,
    }


def words() -> dict[str, Any]:
    vocab = {word: n for n, word in enumerate(("<s>", "the", "cat", "né", "日本", "a"))}
    split = {"type": "WhitespaceSplit"}
    return base({"type": "WordLevel", "vocab": vocab, "unk_token": "a"}, pre_tokenizer=split)


def byte_level() -> dict[str, Any]:
    """Return a tokenizer in the form of xLSTM 7B's."""
    vocab = {symbol: n for n, symbol in enumerate(["<s>", *byte_symbols(), "th", "the", "ca"])}
    level: dict[str, Any] = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    options: dict[str, Any] = {
        "dropout": None,
        "unk_token": None,
        "fuse_unk": False,
        "byte_fallback": False,
    }
    model = {"type": "BPE", **options, "vocab": vocab, "merges": ["t h", "th e", "c a"]}
    normalizer = {"type": "NFC"}
    return base(model, normalizer=normalizer, pre_tokenizer=level, decoder=level)


def fallback() -> dict[str, Any]:
    """Return a tokenizer in the form of Llama 2's."""
    pieces = ["<s>", "<unk>", *(f"<0x{n:02X}>" for n in range(256)), *"▁theca", "▁t", "▁th"]
    vocab = {piece: n for n, piece in enumerate(dict.fromkeys(pieces))}
    model: dict[str, Any] = {"type": "BPE", "vocab": vocab, "merges": [["▁", "t"], ["▁t", "h"]]}
    model |= {"unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True}
    prepend = {"type": "Prepend", "prepend": "▁"}
    spaces = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    back = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    decoders = [back, {"type": "ByteFallback"}, {"type": "Fuse"}, strip]
    return base(
        model,
        normalizer={"type": "Sequence", "normalizers": [prepend, spaces]},
        decoder={"type": "Sequence", "decoders": decoders},
    )


HONEST: dict[str, Callable[[], dict[str, Any]]] = {
    "words": words,
    "byte level": byte_level,
    "byte fallback": fallback,
}


def replace(pattern: Any, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def in_turn(kind: str, parts: list[Any]) -> dict[str, Any]:
    return {"type": "Sequence", kind: parts}


STRIP = {"type": "Strip", "content": " ", "start": 0, "stop": 2**40}
FIXED = {"type": "FixedLength", "length": 0}
LISTED: dict[str, dict[str, Any]] = {
    "five times a to 100 a": {
        "normalizer": in_turn("normalizers", [replace({"String": "a"}, "a" * 100)] * 5)
    },
    "longer": {"normalizer": replace({"String": "a"}, "aa")},
    "empty pattern": {"normalizer": replace({"String": ""}, "x")},
    "regular expression": {"normalizer": replace({"Regex": "(a+)+b"}, "x")},
    "8 GB": {"normalizer": {"type": "Precompiled", "precompiled_charsmap": "////////////"}},
    "empty charsmap": {"normalizer": {"type": "Precompiled", "precompiled_charsmap": ""}},
    "length 0": {"pre_tokenizer": FIXED},
    "strip": {"decoder": STRIP},
    "decoders": {"decoder": in_turn("decoders", [replace({"String": "a"}, "a" * 99)] * 5)},
    "nested": {"normalizer": in_turn("normalizers", [in_turn("normalizers", [])])},
    "words": {"model": {"type": "WordLevel", "vocab": {f"w{n}": n for n in range(400_000)}}},
    "unigram": {"model": {"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 7}},
    "merges": {"model": {"type": "BPE", "vocab": {}, "merges": ["a b"] * 310_000}},
    "prefix": {
        "model": {
            "type": "BPE",
            "vocab": {"a": 0, "b": 1, "é": 2},
            "merges": [["a", "é"]],
            "continuing_subword_prefix": "x",
        }
    },
    "large id": {"model": {"type": "WordLevel", "vocab": {"a": 2**31}, "unk_token": "a"}},
    "many added": {"added_tokens": [words()["added_tokens"][0] | {"content": "x" * 10**6}] * 2},
}
"""Parts of tokenizers that crash, hang, or multiply a text in the package ``tokenizers``."""


@pytest.mark.parametrize("kind", HONEST)
def test_tokenizers_of_published_forms_work(kind: str) -> None:
    assert check(json.dumps(HONEST[kind]())) == [""]
    tokenizer = HuggingFaceTokenizer(json.dumps(HONEST[kind]()))
    assert tokenizer.decode(tokenizer.encode("the cat")) == "the cat"


@pytest.mark.parametrize("name", LISTED)
def test_listed_tokenizers_are_refused(name: str) -> None:
    kinds = [words] if name in ("words", "merges") else HONEST.values()
    errors = check(*(json.dumps(kind() | LISTED[name]) for kind in kinds))
    assert all(error.startswith("tokenizer: expected") for error in errors), errors


PARTS: list[Any] = [
    part for parts in LISTED.values() for part in parts.values() if len(str(part)) < 1000
]
PARTS += [part for made in HONEST.values() for part in made().values() if len(str(part)) < 1000]
PARTS += [{"type": name} for name in ("NFKC", "Digits", "ByteFallback", "Fuse", "Metaspace")]


def test_tokenizers_that_are_changed(trials: int) -> None:
    rng, errors = np.random.default_rng(0), []
    for _ in range(5 * trials):
        errors += check(*(json.dumps(changed(rng, n)) for n in range(12)))
    assert "" in errors


def changed(rng: np.random.Generator, n: int) -> Any:
    """Return a tokenizer of a published form with one to three changes."""
    tree, ways = HONEST[[*HONEST][n % 3]](), ("put", "put", "put", "drop", "rename", "double")
    for _ in range(rng.integers(1, 4)):
        if rng.random() < 0.5:
            names = "normalizer", "pre_tokenizer", "decoder", "model"
            tree[names[rng.integers(len(names))]] = copy.deepcopy(PARTS[rng.integers(len(PARTS))])
            continue
        values = [*ODD, *PARTS, "a" * 200, "▁", 2**31, 2**63]
        value, where = values[rng.integers(len(values))], int(rng.integers(10_000))
        model = tree.get("model") if isinstance(tree, dict) else None
        kept = isinstance(model, dict) and len(model.get("vocab") or ()) > 20 and where % 3 > 0
        rest = {key: part for key, part in tree.items() if key != "model"} if kept else tree
        tree = replaced(rest, ways[where % 6], where, value)
        if kept:
            tree |= {"model": model}
    return tree
