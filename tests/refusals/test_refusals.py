"""Refusals: every table ``*.txt`` lists calls, with the error and the message that each raises.

A table consists of paragraphs of Python statements. The first one is the setup of all others. An
indented line after a statement is the error that it must raise, by the name of its class, and the
start of its message; "..." stands for any text. All other statements must succeed. After a line
``for name in values:``, the rest of the paragraph is repeated for every value, and {name} in a
message is the value.
"""

import ast
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest


class Step(NamedTuple):
    code: str
    error: str = ""
    message: str = ""


def steps(paragraph: str) -> Iterator[Step]:
    """Yield the statements of a paragraph; they can span several lines."""
    code, lines = "", [line for line in paragraph.splitlines() if not line.startswith("#")]
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        if not code and line.startswith("    "):
            continue
        code = f"{code}\n{line}".lstrip()
        if _complete(code):
            error, _, message = after.strip().partition(": ")
            yield Step(code, error, message) if after.startswith("    ") else Step(code)
            code = ""
    assert not code, f"expected a complete statement; got {code}"


def _complete(code: str) -> bool:
    try:
        ast.parse(f"{code}\n    pass" if code.startswith("for ") else code)
    except SyntaxError:
        return False
    return True


def problems(program: Sequence[Step], names: dict[str, Any]) -> Iterator[str]:
    """Run the statements, and yield those that do not raise their error."""
    for n, (code, error, message) in enumerate(program):
        if code.startswith("for "):
            target, _, values = code[4:-1].partition(" in ")
            for value in eval(values, names):
                exec(f"{target} = _value", names | {"_value": value}, names)
                yield from problems(program[n + 1 :], names)
            return
        if not error:
            exec(code, names)
            continue
        message = re.sub(r"\{(\w+)\}", lambda name: _shown(names[name[1]]), message)
        expected, got = f"{error}: {message}", "no error"
        try:
            exec(code, names)
        except Exception as raised:
            got = f"{type(raised).__name__}: {raised}"
        pattern = re.escape(expected).replace(r"\.\.\.", ".*")
        if not re.match(pattern, got, re.DOTALL):
            yield f"{code}\n    expected {expected}\n    got {got}"


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)


def paragraphs() -> Iterator[Any]:
    """Yield the setup of a table with each of its other paragraphs."""
    for path in sorted(Path(__file__).parent.glob("*.txt")):
        setup, *others = re.split(r"\n\n+", path.read_text("utf-8").strip())
        for n, paragraph in enumerate(others):
            yield pytest.param(setup, paragraph, id=f"{path.stem}-{n}")


@pytest.mark.filterwarnings("ignore:the matrix subclass")
@pytest.mark.parametrize(("setup", "paragraph"), [*paragraphs()])
def test_refused(setup: str, paragraph: str) -> None:
    names: dict[str, Any] = {}
    found = [*problems([*steps(setup)], names), *problems([*steps(paragraph)], names)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "wrong",
    [
        "int('3')\n    ValueError: invalid",
        "int('a')\n    TypeError: invalid",
        "int('a')\n    ValueError: valid",
        "for text in 'ab3':\nint(text)\n    ValueError: ...base 10: '{text}'",
    ],
)
def test_a_wrong_row_is_found(wrong: str) -> None:
    assert len([*problems([*steps(wrong)], {})]) == 1
    assert not [*problems([*steps("int('a')\n    ValueError: ...base 10: 'a'")], {})]
