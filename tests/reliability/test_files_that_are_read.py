"""Every file that a command reads may be damaged, a pipe, endless or of any size."""

import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import cli
from numpy_xlstm.training import read_texts
from tests.checkpoints.measure import now, peak
from tests.reliability import hostile
from tests.reliability.children import ask, silent

for package in ("yaml", "ml_dtypes", "tokenizers"):
    pytest.importorskip(package)

TEXT = "the cat sat on the mat, né 日本\n" * 40
SHORT = "--steps 1 --window 8 --batch-size 2 --sample-length 2"
BLOCKS = f"{SHORT} --tokenizer bpe:260 --width 16 --heads 2 --model"
MADE = f"""
train text.txt {SHORT} --cell mlstm --hidden-size 4 --heads 2 --embedding-size 3 --out run
train text.txt {BLOCKS} xlstm-large --blocks 1 --out large
train text.txt {BLOCKS} xlstm --blocks 2 --out small
convert large hf --to transformers
convert large xl --to xlstm-large
convert small official --to xlstm
experiment parity --steps 1 --set batch=2 --out experiments/one
trace large --ids 1,2 --out trace
vectors vectors --subject lstm.step
"""
"""Commands that make the files."""

READ = f"""
info run
    run/best.safetensors
info hf
    hf/[!t]* hf/tokenizer.json
info xl
    xl/[!t]* xl/tokenizer.json
train texts --validation text.txt --tokenizer hf/tokenizer.json {SHORT}
    texts/**/* text.txt hf/tokenizer.json
train text.txt --from hf {SHORT}
    text.txt hf/[!t]* hf/tokenizer.json
train text.txt --model xlstm --config official/config.yaml {SHORT}
    text.txt official/config.yaml
train text.txt --resume run --steps 3
    text.txt run/checkpoint.safetensors run/log.jsonl run/lock
experiment --table experiments
    experiments/*/result.json
experiment --resume experiments/one --steps 2
    experiments/one/[cl]*[!g]
eval run text.txt --rows 2
    run/best.safetensors text.txt
eval hf text.txt --rows 2 --tokenizer xl/tokenizer.json
    hf/[!t]* text.txt xl/tokenizer.json
generate official --prompt th --max-new-tokens 2
    official/[!t]* official/tokenizer.json
generate large --prompt th --max-new-tokens 2 --tokenizer xl/tokenizer.json
    large/best.safetensors xl/tokenizer.json
convert run new.safetensors
    run/best.safetensors
convert xl new --to transformers
    xl/[!t]* xl/tokenizer.json
trace official --ids 1,2 --out new
    official/[!t]*
verify vectors/results --vectors vectors
    vectors/manifest.json vectors/*/*.safetensors
verify trace/results --trace trace --checkpoint large
    trace/manifest.json trace/*/*.safetensors large/best.safetensors
"""
"""Every file that the command line reads: commands, each with patterns of the files."""

ROWS = re.findall(r"(.*)\n    (.*)\n", READ)
PATHS = {"FILE", "DIR", "PATH", "CHECKPOINT"}
"""Metavars of arguments that are paths."""
WRITTEN = {"--out", "--json", "--junit", "path", "folder"}
RUNS = "run", "large", "one"
CONTROL = re.compile(r"[\x00-\x08\x0b-\x0c\x0e-\x1f\x7f-\x9f\u202e]")
MOST = 300 << 20
"""Memory in bytes that a command may use for these small files."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all files."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "texts" / "more").mkdir(parents=True)
    for name in ("text.txt", "texts/a.txt", "texts/more/b.txt"):
        (folder / name).write_text(TEXT, encoding="utf-8")
    assert ask(make, folder).code == 0
    return folder


def make(folder: Path) -> None:
    os.chdir(folder)
    for line in MADE.strip().splitlines():
        assert cli.main(shlex.split(line)) == 0


def opened(files: Path, folder: Path) -> list[tuple[int, set[Path]]]:
    """Run each command in a copy of the files; return its exit code and which of them it opens."""
    paths: set[Path] = set()

    def note(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[0], str | bytes | os.PathLike):
            paths.add(Path(os.path.relpath(os.fsdecode(arguments[0]))))

    sys.addaudithook(note)
    outcomes = []
    for n, (line, _) in enumerate(ROWS):
        os.chdir(shutil.copytree(files, folder / f"{n}"))
        paths.clear()
        code = cli.main(shlex.split(line))
        ours = {path for path in paths if ".." not in path.parts}
        outcomes.append((code, {path for path in ours if (files / path).is_file()}))
    return outcomes


def listed(folder: Path, patterns: str) -> set[Path]:
    paths = {path for pattern in patterns.split() for path in folder.glob(pattern)}
    return {path.relative_to(folder) for path in paths if path.is_file()}


def test_a_command_opens_the_files_of_the_list(files: Path, tmp_path: Path) -> None:
    outcomes = ask(opened, files, tmp_path).said
    for (line, patterns), outcome in zip(ROWS, outcomes, strict=True):
        assert outcome == (0, listed(files, patterns)), line


def test_every_argument_with_a_path_is_in_the_list() -> None:
    (commands,) = (a.choices for a in cli._parser()._actions if isinstance(a.choices, dict))
    for name, command in commands.items():
        words = {word for line, _ in ROWS for word in line.split() if line.startswith(name)}
        paths = [a for a in command._actions if a.type is Path or a.metavar in PATHS]
        read = [a for a in paths if not {*a.option_strings, a.dest} & WRITTEN]
        assert {a.option_strings[-1] for a in read if a.option_strings} <= words, name
        assert words or not read, name


def closed(folder: Path) -> str:
    """Read texts of which one folder is closed; root can read it, nobody cannot."""
    os.chdir(folder)
    folder.chmod(0o755)
    Path("texts/more").chmod(0)
    if os.getuid() == 0:
        os.setuid(65534)
    try:
        return str(read_texts(["texts"]))
    except PermissionError as error:
        return str(error)


def test_a_folder_that_cannot_be_read_is_an_error(files: Path, tmp_path: Path) -> None:
    answer = ask(closed, shutil.copytree(files, tmp_path / "copy"))
    assert re.search("Permission denied.*more", answer.said)


def pipe(file: Path) -> None:
    os.mkfifo(file)


def endless(file: Path) -> None:
    file.symlink_to("/dev/zero")


def sparse(file: Path) -> None:
    file.touch()
    os.truncate(file, 1 << 40)


def folder(file: Path) -> None:
    file.mkdir()


ODD: list[Callable[[Path], None]] = [pipe, endless, sparse, folder, Path.touch]


def attempt(folder: Path, line: str, output: Path) -> tuple[Any, int]:
    """Run a command in a folder; return its exit code and the memory it used."""
    os.chdir(folder)
    before = now()
    with pytest.raises(SystemExit) as end:
        silent(shlex.split(line), output)
    return end.value.code, peak() - before


def test_damaged_files(files: Path, tmp_path: Path, trials: int) -> None:
    rng = np.random.default_rng(0)
    for n in range(15 * trials):
        line, patterns = ROWS[rng.integers(len(ROWS))]
        copy, output = tmp_path / f"{n}", tmp_path / f"{n}.txt"
        shutil.copytree(files, copy)
        file = copy / str(rng.choice(sorted(map(str, listed(copy, patterns)))))
        if n % 5:
            own = file.suffix == ".safetensors" and file.parent.name in RUNS
            hostile.change(file, own, n, rng)
        else:
            file.unlink()
            ODD[n // 5 % len(ODD)](file)
        answer, text = ask(attempt, copy, line, output), output.read_text("utf-8")
        context = f"{line}, with another {file.relative_to(copy)}: {answer}, {text}"
        assert answer.code == 0, context
        code, memory = answer.said
        assert code in (0, 1, 2, 3), context
        assert memory < MOST, context
        assert "Traceback" not in text, context
        assert CONTROL.search(text) is None or line.startswith(("generate", "train")), context
        shutil.rmtree(copy)
