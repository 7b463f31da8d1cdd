"""Every changed bit is detected."""

from pathlib import Path

import numpy as np
import pytest

from numpy_xlstm import from_pretrained, load_checkpoint
from numpy_xlstm.checkpoints import read_arrays, save_checkpoint
from numpy_xlstm.errors import CheckpointError
from tests.checkpoints.build import lstm, read_safetensors, write, write_safetensors


@pytest.mark.parametrize("kind", ["safetensors", "shards", "torch"])
def test_every_flipped_bit_is_refused(kind: str, tmp_path: Path) -> None:
    path = write(kind, tmp_path)
    file = path if path.is_file() else sorted(path.glob("*.safetensors"))[0]
    data, rng = file.read_bytes(), np.random.default_rng(0)
    own = kind == "safetensors"
    header = 8 + int.from_bytes(data[:8], "little")
    places = rng.integers(0, 8 * len(data), 100).tolist()
    places += rng.integers(0, 8 * (len(data) if own else header), 100).tolist()
    named = data.find(b"numpy_xlstm_crc32")
    places += range(8 * named, 8 * (named + 17))  # another name must not turn the checks off
    for at in places:
        changed = bytearray(data)
        changed[at // 8] ^= 1 << at % 8
        file.write_bytes(changed)
        with pytest.raises(CheckpointError):
            from_pretrained(path)
    file.write_bytes(data)
    from_pretrained(path)


def test_a_checkpoint_without_checksums(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_checkpoint(path, lstm())
    header, data = read_safetensors(path)
    del header["__metadata__"]["numpy_xlstm_crc32"]
    write_safetensors(path, header, data)
    with pytest.raises(CheckpointError, match="expected the checksums of a checkpoint; got no"):
        load_checkpoint(path)
    read_arrays(path)  # files of other packages can be read
