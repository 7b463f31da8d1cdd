"""Mutants of a file, each with one small mistake in arithmetic, in a private copy of the package.

A mutant changes one operator, sign, comparison, constant, function or argument of one line. Only
lines in functions are changed, except docstrings, errors, types and defaults.
"""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

from numpy_xlstm.conformance.bugs.copies import Copy, source

ROOT = Path(__file__).parents[2]
FUNCTIONS = "numpy_xlstm.kernels.functions"
SWITCH = 'os.environ.get("NUMPY_XLSTM_COMPILED") == "0"'

OPERATORS: dict[type[ast.operator], str] = {ast.Add: "-", ast.Sub: "+", ast.Mult: "/", ast.Div: "*"}
COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "==",
}  # fmt: skip
REPLACED = {
    "sigmoid": "np.tanh", "sigmoid_slope": "tanh_slope", "tanh_slope": "sigmoid_slope",
    "log_gate_slope": "log_gate", "maximum": "minimum_", "tanh": "sin", "exp": "expm1",
}  # fmt: skip
SKIPPED = (ast.Raise, ast.Assert, ast.AnnAssign, ast.arguments, ast.Import, ast.ImportFrom)


class Mutant(NamedTuple):
    """One change of one line."""

    file: str
    line: int
    start: int
    stop: int
    text: str

    @property
    def module(self) -> str:
        """Return the name of the module."""
        return self.file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def computes(self) -> bool:
        """Return whether an equation with a tag on the line is changed, and not a number."""
        row = (ROOT / self.file).read_text("utf-8").splitlines()[self.line - 1]
        return "# [" in row and not self.text.lstrip("-").isdigit()

    def parses(self) -> bool:
        """Return whether the changed source is Python."""
        try:
            ast.parse(self.source())
        except SyntaxError:
            return False
        return True

    def planted(self) -> Copy:
        """Return a copy of the package and of the tests with the change and without compilation."""
        compiled = source(FUNCTIONS).replace(SWITCH, "True")
        assert SWITCH not in compiled != source(FUNCTIONS)
        return Copy({FUNCTIONS: compiled, self.module: self.source()}, "tests")

    def source(self) -> str:
        """Return the source of the file with the change."""
        lines = (ROOT / self.file).read_text("utf-8").splitlines(keepends=True)
        row = lines[self.line - 1].encode()
        lines[self.line - 1] = (row[: self.start] + self.text.encode() + row[self.stop :]).decode()
        return "".join(lines)

    def __str__(self) -> str:
        row = (ROOT / self.file).read_text("utf-8").splitlines()[self.line - 1].encode()
        old = row[self.start : self.stop].decode()
        return f"{self.file}:{self.line}: {old!r} → {self.text!r} in {row.decode().strip()!r}"


def mutants(file: str) -> list[Mutant]:
    """Return all mutants of a file, in order; some do not parse."""
    source = (ROOT / file).read_text("utf-8")
    found = []
    for function in ast.walk(ast.parse(source)):
        if isinstance(function, ast.FunctionDef) and not function.name.startswith("check_"):
            for statement in function.body:
                for line, start, stop, text in _changes(statement, source):
                    found.append(Mutant(file, line, start, stop, text))
    return sorted({*found})


def _changes(node: ast.AST, source: str) -> Iterator[tuple[int, int, int, str]]:
    """Yield positions and new texts for a node and its descendants."""
    if isinstance(node, SKIPPED) or _is_docstring(node):
        return
    if isinstance(node, ast.expr) and node.lineno == node.end_lineno:
        yield from _of_expression(node, source)
    for child in ast.iter_child_nodes(node):
        yield from _changes(child, source)


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


@cache
def _lines(source: str) -> list[bytes]:
    return [line.encode() for line in source.splitlines()]


def _text(node: ast.expr, source: str) -> str:
    """Return the text of an expression on one line."""
    return _lines(source)[node.lineno - 1][node.col_offset : node.end_col_offset].decode()


def _of_expression(node: ast.expr, source: str) -> Iterator[tuple[int, int, int, str]]:
    line, start, stop = node.lineno, node.col_offset, node.end_col_offset or 0
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        left, right = (_text(part, source) for part in (node.left, node.right))
        yield line, start, stop, f"({left}) {OPERATORS[type(node.op)]} ({right})"
        yield line, start, stop, f"({left})"
        if isinstance(node.op, ast.Add | ast.Sub):
            yield line, start, stop, f"({right})"
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult):
        yield line, start, stop, f"(-{_text(node.left, source)} @ {_text(node.right, source)})"
    elif isinstance(node, ast.List) and len(node.elts) > 1:
        first, second, *others = (_text(part, source) for part in node.elts)
        yield line, start, stop, f"[{', '.join([second, first, *others])}]"
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield line, start, stop, _text(node.operand, source)
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in COMPARISONS:
        left = _text(node.left, source)
        right = _text(node.comparators[0], source)
        yield line, start, stop, f"{left} {COMPARISONS[type(node.ops[0])]} {right}"
    elif isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        yield line, start, stop, str(node.value + 1)
    elif isinstance(node, ast.Call):
        yield from _of_call(node, source)


def _of_call(node: ast.Call, source: str) -> Iterator[tuple[int, int, int, str]]:
    line, start, stop = node.lineno, node.col_offset, node.end_col_offset or 0
    name = _text(node.func, source)
    arguments = [_text(a, source) for a in node.args]
    if name == "np.where" and len(arguments) == 3:
        condition, a, b = arguments
        yield line, start, stop, f"np.where({condition}, {b}, {a})"
    if name in REPLACED and name != "maximum":
        yield line, start, stop, f"{REPLACED[name]}({', '.join(arguments)})"
    if name.endswith(".sum"):
        yield line, start, stop, _text(node, source).replace(".sum(", ".mean(")
    if name in ("np.exp", "np.tanh", "np.sign", "sigmoid") and len(arguments) == 1:
        yield line, start, stop, f"({arguments[0]})"
    if name == "maximum" and len(arguments) == 2:
        yield line, start, stop, f"({arguments[0]})"
        yield line, start, stop, f"({arguments[1]})"
