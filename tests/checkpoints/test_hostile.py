"""Files that somebody has made on purpose: an error, little memory, and no time."""

import json
import os
import re
import struct
import time
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import (
    AdamW,
    CharacterTokenizer,
    HuggingFaceTokenizer,
    from_pretrained,
    load_checkpoint,
    open_pretrained,
    save_pretrained,
)
from numpy_xlstm.checkpoints import read_arrays, save_checkpoint, write_arrays
from numpy_xlstm.cli import main
from numpy_xlstm.errors import CheckpointError, OptionError, printable
from numpy_xlstm.models import xLSTMLMModelConfig
from numpy_xlstm.training import TrainingState
from tests.checkpoints.build import (
    large,
    lstm,
    paper,
    read_safetensors,
    seal_npz,
    write,
    write_npz,
    write_safetensors,
)

MEMORY = 100 * 2**20


def refused(path: Path, message: str, **options: Any) -> None:
    """At most as much memory as twice the file and 100 MiB, and a second."""
    tracemalloc.start()
    started = time.process_time()
    try:
        with pytest.raises(CheckpointError, match=message):
            from_pretrained(path, **options)
        assert tracemalloc.get_traced_memory()[1] < MEMORY + 2 * path.stat().st_size
        assert time.process_time() - started < 10
    finally:
        tracemalloc.stop()


def saved(folder: Path, **changes: Any) -> Path:
    """A checkpoint of a small model with other metadata, as if we had written it."""
    path = folder / "a.npz"
    save_checkpoint(path, lstm(), training={"step": 3})
    arrays, metadata = read_arrays(path)
    write_arrays(path, arrays, metadata | changes)
    return path


# What is packed


def packed(folder: Path, zeros: int) -> Path:
    path = saved(folder)
    arrays = read_arrays(path)[0] | {"more": np.zeros(zeros, np.uint8)}
    with np.load(path) as stored:
        arrays["__metadata__"] = stored["__metadata__"]
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    seal_npz(path)
    return path


def test_what_unpacks_to_far_more_than_its_file(tmp_path: Path) -> None:
    path = packed(tmp_path, 200_000_000)
    assert path.stat().st_size < 300_000
    refused(
        path, r"a\.npz: expected arrays of at most [\d,]+ bytes, max_bytes by default; got 200,"
    )
    with pytest.raises(CheckpointError, match="max_bytes by default"):
        load_checkpoint(path)
    with pytest.raises(CheckpointError, match="max_bytes by default"):
        read_arrays(path)


def test_the_total_can_be_set(tmp_path: Path) -> None:
    path = packed(tmp_path, 1_000_000)
    assert from_pretrained(path).num_parameters == lstm().num_parameters
    assert load_checkpoint(path, max_bytes=1_100_000).arrays["more"].size == 1_000_000
    readers: list[Any] = [from_pretrained, open_pretrained, load_checkpoint, read_arrays]
    for read in readers:
        with pytest.raises(CheckpointError, match=r"at most 1,000,000 bytes, max_bytes; got 1,00"):
            read(path, max_bytes=1_000_000)
        with pytest.raises(OptionError, match="max_bytes: expected a whole number"):
            read(path, max_bytes="1 GB")
    folder = tmp_path / "model"
    save_pretrained(large(), folder, max_shard_size="4KB")
    assert from_pretrained(folder, max_bytes=50_000).num_parameters == large().num_parameters
    with pytest.raises(CheckpointError, match="model: expected arrays of at most 5,000 bytes"):
        from_pretrained(folder, max_bytes=5_000)


def test_arrays_in_one_place_with_one_another(tmp_path: Path) -> None:
    """The bytes of one array are those of a thousand, in a list that says so."""
    path, count = tmp_path / "a.npz", 1000
    np.savez(path, x=np.zeros(300_000, np.uint8))
    data = path.read_bytes()
    end = data.rindex(b"PK\5\6")
    start = data.rindex(b"PK\1\2", 0, end)
    entry = data[start:end]
    tail = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, count * len(entry), start, 0)
    path.write_bytes(data[:start] + entry * count + tail)
    refused(path, "a.npz: expected a whole .npz file")


def test_what_is_packed_is_checked_to_its_end(tmp_path: Path) -> None:
    path = packed(tmp_path, 1000)
    with zipfile.ZipFile(path) as archive:
        place = archive.getinfo("more.npy").header_offset
    data = bytearray(path.read_bytes())
    found = data.index(b"PK\1\2", place)
    while data[found + 46 : found + 54] != b"more.npy":
        found = data.index(b"PK\1\2", found + 1)
    data[found + 16] ^= 1  # its CRC-32
    path.write_bytes(data)
    seal_npz(path)
    with pytest.raises(CheckpointError, match="Bad CRC-32"):
        load_checkpoint(path)


def test_members_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    for name, content, message in (
        ("x.npy", b"no array, but some text", "the magic string is not correct"),
        ("x.txt", b"text", "'x.txt', expected names that end in .npy"),
        ("x.npy", b"\x93NUMPY\1\0" + struct.pack("<H", 65535), "a header of 65,535 bytes"),
    ):
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(name, content)
        refused(path, f"a.npz: expected a whole .npz file; .*{message}")
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive, archive.open("x.npy", "w") as f:
        np.lib.format.write_array(f, np.ones(3))
    refused(path, "x: packed in the way 14")


@pytest.mark.parametrize("dtype", ["(1000,)f4", "M8[s]", "V3", "U5", "O"])
def test_dtypes_that_are_no_numbers(dtype: str, tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    header = f"{{'descr': '|{dtype}', 'fortran_order': False, 'shape': (1,), }}".encode()
    size = np.dtype(dtype).itemsize
    with zipfile.ZipFile(path, "w") as archive:
        magic = b"\x93NUMPY\1\0" + struct.pack("<H", len(header)) + header
        archive.writestr("x.npy", magic + bytes(size))
    refused(path, "a.npz: expected a whole .npz file")


def test_more_arrays_than_anybody_has(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        for n in range(10_001):
            archive.writestr(f"{n}.npy", b"")
    refused(path, "expected at most 10,000 arrays; got 10,001")
    with zipfile.ZipFile(path, "w") as archive:
        for n in range(3_000):
            archive.writestr(f"{n}{'x' * 2000}.npy", b"")
    refused(path, "a list of arrays of 6")
    entry = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    path = path.with_suffix(".safetensors")
    write_safetensors(path, {str(n): entry for n in range(11_000)}, b"")
    refused(path, "expected at most 10,000 arrays; got 11,000")
    with pytest.raises(CheckpointError, match="arrays: expected fewer than 10,000"):
        write_arrays(path, {str(n): np.zeros(0) for n in range(11_000)}, {})


# What is said in JSON and YAML


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"[" * 3000, "nested more than 32 deep"),
        (b"[" * 100 + b"]" * 100, "nested more than 32 deep"),
        (b'{"a":' * 33 + b"1" + b"}" * 33, "nested more than 32 deep"),
        (b"[" + b"{}," * 3_000_000 + b"{}]", "at most 500,000 values; got 6,000,00"),
        (b'["' + b'\\"' * 5_000_000, "Unterminated string"),
        (b'"' + b"x" * 26_000_000 + b'"', "at most 25,000,000 bytes"),
        ('"é'.encode() + b"x" * 11_000_000 + b'"', "at most 10,000,000 bytes"),
        (b'{"a": 1e999}', "a: expected a finite number; got inf"),
        (b'{"a": NaN}', "a: expected a finite number; got nan"),
        (b'{"a": ' + b"1" * 5000 + b"}", "Exceeds the limit"),
        (b'{"a": ' + b"1" * 100 + b"}", "a: expected a number of at most 256 bits"),
        (b'{"a": 1, "a": 2}', "a: expected one entry; got two"),
        ('{"a": 1}'.encode("utf-16"), "codec can't decode"),
    ],
    ids=lambda text: str(text)[:20],
)
def test_json_that_stands_for_too_much(text: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    refused(path, message if len(text) <= 25_000_000 else "a header of 26")
    write_npz(path.with_suffix(".npz"), {"__metadata__": np.frombuffer(text, np.uint8)})
    refused(path.with_suffix(".npz"), message if len(text) <= 25_000_000 else "expected a text")
    folder = tmp_path / "model"
    save_pretrained(large(), folder, format="transformers")
    (folder / "config.json").write_bytes(text)
    message = "config.json: expected " if "bytes" in message else f"config.json: .*{message}"
    with pytest.raises(CheckpointError, match=message):
        from_pretrained(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a [1,1,1]\nb: &b [*a,*a,*a]\nmlstm_block: [*b,*b]", "a reference to an anchor"),
        ("mlstm_block: {a: 1}\n" * 2, "mlstm_block: expected one entry; got two"),
        ("num_blocks: .inf", "num_blocks: expected a finite number; got inf"),
        ("num_blocks: 0x" + "f" * 1000, "num_blocks: expected a number of at most 256 bits"),
        ("a: " + "[" * 40 + "]" * 40, "nested more than 32 deep"),
        ("a: " + "[" * 5000 + "]" * 5000, "nested more than 32 deep"),
        ("a: 1\n" * 30_000, "at most 100,000 bytes"),
        ("[a]: 1", "YAML"),
    ],
    ids=lambda text: text[:20],
)
def test_yaml_that_stands_for_too_much(text: str, message: str, tmp_path: Path) -> None:
    pytest.importorskip("yaml")
    folder = write("xlstm", tmp_path)
    (folder / "config.yaml").write_text(text)
    refused(folder, rf"config\.yaml: expected .*{message}")
    with pytest.raises(OptionError, match=message):
        xLSTMLMModelConfig.load(folder / "config.yaml")


LONG = 'x" é 𝄞 \\ ' * 10


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_texts_and_names_that_are_hard_to_write(suffix: str, tmp_path: Path) -> None:
    path, metadata = tmp_path / f"a{suffix}", {LONG: [LONG, {"\x1b": "\ud800"}]}
    write_arrays(path, {LONG: np.ones(2), '"numpy_xlstm_crc32":"00000000': np.ones(1)}, metadata)
    arrays, found = read_arrays(path)
    assert found == metadata
    assert arrays[LONG].tolist() == [1, 1]
    for name in ("a\nb", "\x1b[2J", "a\0b", "x" * 1001):
        with pytest.raises(CheckpointError, match="printable characters, other than __metadata__"):
            write_arrays(path, {name: np.ones(1)}, {})
    deep: Any = 1
    for _ in range(3000):
        deep = [deep]
    with pytest.raises(CheckpointError, match="metadata: expected what JSON can hold"):
        write_arrays(path, {}, {"deep": deep})
    assert read_arrays(path)[1] == metadata


# What the file does not hold

MODELS: dict[str, Any] = {"lstm": lstm, "paper": paper, "large": large}


def other_config(kind: str, folder: Path, change: Any) -> Path:
    path = folder / "b.npz"
    save_checkpoint(path, MODELS[kind]())
    arrays, metadata = read_arrays(path)
    change(metadata["config"])
    write_arrays(path, arrays, metadata)
    return path


CONFIGS: list[tuple[str, Any, str]] = [
    (
        "lstm",
        lambda c: c["cell"]["options"].update(hidden_size=10**4),
        "hidden_size: expected a mo",
    ),
    ("lstm", lambda c: c["cell"]["options"].update(hidden_size=400), "as many numbers as its file"),
    ("lstm", lambda c: c["cell"]["options"].update(num_layers=50), "arrays in the file; got 50"),
    ("lstm", lambda c: c.update(vocab_size=530), "as many numbers as its file"),
    ("paper", lambda c: c.update(num_blocks=10**8), "num_blocks: expected a model of"),
    ("paper", lambda c: c.update(num_blocks=200, slstm_at=[]), "arrays in the file; got 200"),
    ("paper", lambda c: c["mlstm_block"]["mlstm"].update(proj_factor=1e9), "as many numbers as"),
    ("large", lambda c: c.update(ffn_proj_factor=9e8), "as many numbers as its file"),
    ("large", lambda c: c.update(ffn_round_up_to_multiple_of=10**9), "as many numbers as its file"),
    ("large", lambda c: c.update(num_blocks=10**8), "num_blocks: expected a model of"),
]


@pytest.mark.parametrize(("kind", "change", "message"), CONFIGS)
def test_a_model_that_its_file_does_not_hold(
    kind: str, change: Any, message: str, tmp_path: Path
) -> None:
    path = other_config(kind, tmp_path, change)
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(path)
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()


def test_a_carried_state_of_more_rows_than_there_are(tmp_path: Path) -> None:
    model, path = lstm(), tmp_path / "a.npz"
    rng = np.random.default_rng(0)
    state = TrainingState(model, AdamW(model.params), rng)
    state.advance(3, 1.0, 1.0, model(np.zeros((2, 3), np.int64))[1])
    state.save(path)
    arrays, metadata = read_arrays(path)
    many = {n: np.zeros((10**9, 0), np.float32) for n in arrays if n.startswith("carried")}
    assert many
    for rows in (2, 10**9):
        metadata["training"]["carried"] = rows
        write_arrays(path, arrays | many, metadata)
        tracemalloc.start()
        try:
            with pytest.raises(CheckpointError, match=r"carried\.0\..: expected "):
                TrainingState.load(path)
            assert tracemalloc.get_traced_memory()[1] < 3_000_000
        finally:
            tracemalloc.stop()


# Wrong types in every field of the metadata

WRONG: tuple[Any, ...] = (None, True, -1, 1.5, "x", [], {}, [1, "x"], {"a": [None]}, 2**70)


def fields(value: Any, place: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The places of all fields, inner ones too."""
    if not isinstance(value, dict | list):
        return [place]
    pairs = value.items() if isinstance(value, dict) else enumerate(value)
    inner = [found for key, each in pairs for found in fields(each, (*place, key))]
    return [place, *inner] if place else inner


def put(value: Any, place: tuple[Any, ...], wrong: Any) -> Any:
    if not place:
        return wrong
    key, *rest = place
    pairs = [*value.items()] if isinstance(value, dict) else [*enumerate(value)]
    made = {k: put(v, tuple(rest), wrong) if k == key else v for k, v in pairs}
    return made if isinstance(value, dict) else [*made.values()]


def error_of(path: Path) -> str:
    """What is said of a file; nothing if it can be loaded."""
    try:
        TrainingState.load(path)
        open_pretrained(path).load_tokenizer()
    except CheckpointError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("kind", MODELS)
def test_wrong_types_in_every_field(kind: str, tmp_path: Path) -> None:
    path, model = tmp_path / "a.npz", MODELS[kind]()
    state = TrainingState(model, AdamW(model.params), np.random.default_rng(0))
    state.advance(3, 1.0, 1.0, model(np.zeros((2, 3), np.int64))[1])
    state.validations.append((1, 2.5))
    state.save(path, tokenizer=CharacterTokenizer.of("ab"), notes={"a": 1}, log_size=7)
    arrays, metadata = read_arrays(path)
    metadata["special_tokens"] = [1, [2, 3], None, True]
    tried, refused_, rng = 0, 0, np.random.default_rng(0)
    for place in fields(metadata):
        for wrong in rng.permutation(np.array(WRONG, object))[:3]:
            if place[:2] == ("training", "notes"):
                continue
            write_arrays(path, arrays, put(metadata, place, wrong))
            tried += 1
            message = error_of(path)
            names = [re.escape(part) for part in place if isinstance(part, str)]
            arrays_of_another = r"a\.npz: .*(expected (no )?'.*'|expected shape)"
            expected = "|".join([*names, arrays_of_another])
            assert not message or re.search(expected, message), (place, wrong, message)
            refused_ += bool(message)
    assert tried > 90
    assert refused_ > 0.6 * tried  # others can be meant, such as another learning rate


# Bits that change


@pytest.mark.parametrize("kind", ["npz", "safetensors", "shards", "torch"])
def test_every_flipped_bit_is_refused(kind: str, tmp_path: Path) -> None:
    path = write(kind, tmp_path)
    file = path if path.is_file() else sorted(path.glob("*.safetensors"))[0]
    data, rng = file.read_bytes(), np.random.default_rng(0)
    own = kind in ("npz", "safetensors")
    header = 8 + int.from_bytes(data[:8], "little")
    places = rng.integers(0, 8 * len(data), 100).tolist()
    places += rng.integers(0, 8 * (len(data) if own else header), 100).tolist()
    named = data.find(b"numpy_xlstm_crc32") if not own else len(data)
    for at in places:
        if named <= at // 8 < named + 17:  # a checksum that has another name is not ours
            continue
        changed = bytearray(data)
        changed[at // 8] ^= 1 << at % 8
        file.write_bytes(changed)
        with pytest.raises(CheckpointError):
            from_pretrained(path)
    file.write_bytes(data)
    from_pretrained(path)


def test_a_checkpoint_without_checksums(tmp_path: Path) -> None:
    for suffix in (".npz", ".safetensors"):
        path = tmp_path / f"a{suffix}"
        save_checkpoint(path, lstm())
        if suffix == ".npz":
            with np.load(path) as stored:
                np.savez(path, **dict(stored))
        else:
            header, data = read_safetensors(path)
            del header["__metadata__"]["numpy_xlstm_crc32"]
            write_safetensors(path, header, data)
        with pytest.raises(CheckpointError, match="expected the checksums of a checkpoint; got no"):
            load_checkpoint(path)
        read_arrays(path)  # what others have written may be read


def test_official_programs_read_files_with_checksums(tmp_path: Path) -> None:
    library = pytest.importorskip("safetensors.numpy")
    path = write("torch", tmp_path)
    found = library.load_file(path)
    for name, array in from_pretrained(path).params.items():
        np.testing.assert_array_equal(found[name], array)


# Other kinds of files


def test_nothing_waits_for_a_pipe(tmp_path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        pytest.skip("there are no pipes in folders here")
    folder = tmp_path / "model"
    save_pretrained(large(), folder, format="transformers")
    os.mkfifo(folder / "tokenizer.json")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: expected a regular file"):
        open_pretrained(folder).load_tokenizer()
    with pytest.raises(CheckpointError, match=r"tokenizer\.json: expected a regular file"):
        HuggingFaceTokenizer.from_file(folder / "tokenizer.json")
    for name in ("config.json", "generation_config.json"):
        text = (folder / name).read_text() if (folder / name).exists() else ""
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to("/dev/zero")
        with pytest.raises(CheckpointError, match=rf"{name}: expected a regular file"):
            from_pretrained(folder)
        (folder / name).unlink()
        (folder / name).write_text(text)


# Characters that control a terminal

CONTROL = "\x1b[2J\x9b31m\u202eevil\r"


def test_errors_control_no_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert printable(CONTROL) == r"\x1b[2J\x9b31m\u202eevil\r"
    entry = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    path = tmp_path / "a.safetensors"
    metadata = json.dumps({"kind": CONTROL, "format": 1, "config": {CONTROL: 1}})
    for header in (
        {CONTROL: entry},
        {CONTROL: {"shape": 3}},
        {CONTROL: entry, "b": entry},
        {"a": entry, "__metadata__": {"numpy_xlstm": CONTROL}},
        {"a": entry, "__metadata__": {"numpy_xlstm": metadata, "numpy_xlstm_crc32": ""}},
    ):
        write_safetensors(path, header, bytes(4))
        with pytest.raises(CheckpointError) as error:
            from_pretrained(path)
        assert str(error.value).isprintable()
        assert error.value.__cause__ is None or str(error.value.__cause__).isprintable()
        assert main(["info", str(path)]) == 2
        assert capsys.readouterr().err.rstrip("\n").isprintable()
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / f"{CONTROL}.safetensors").write_bytes(b"x" * 100)
    assert main(["info", str(folder)]) == 2
    assert capsys.readouterr().err.rstrip("\n").isprintable()


@pytest.mark.parametrize("terminal", [True, False])
def test_what_a_model_writes_controls_no_terminal(
    terminal: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = lstm()
    tokenizer = CharacterTokenizer.of("\x1b\x9b\t\nab")
    assert tokenizer.size == model.vocab_size
    save_checkpoint(tmp_path / "a.npz", model, tokenizer=tokenizer)
    monkeypatch.setattr("sys.stdout.isatty", lambda: terminal)
    command = ["generate", str(tmp_path / "a.npz"), "--prompt", "ab", "--max-new-tokens", "99"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert {"\t", "\n"} <= {*out}
    assert ("\x1b" in out, "\x9b" in out) == (not terminal, not terminal)
    assert (r"\x1b" in out) == terminal
