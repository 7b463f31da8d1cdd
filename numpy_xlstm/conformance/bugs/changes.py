"""Small changes of single lines of the specification, all in one private copy of it.

They name mistakes that are in no list, and show on which lines a wrong number depends. A copy of a
module has every line with all its changes, and a number selects one of them::

    if 3 <= CHANGE[0] < 5:
        if CHANGE[0] == 3: n = f * n_prev
        if CHANGE[0] == 4: n = f * n_prev - i
    else:
        n = f * n_prev + i
"""

import ast
import re
from collections.abc import Iterator
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.conformance.bugs.bug import Bug, run, texts
from numpy_xlstm.conformance.bugs.copies import Copy, source

AFFIXES = re.compile(r"(d?)(log_)?([A-Za-z]+?)(_pre|_prev|_next|_bar|_tilde)?")
ACTIVATIONS = ("np.tanh", "sigmoid", "np.exp", "tanh_slope", "sigmoid_slope")
SIZES = ("self", "B", "T", "H", "NH", "DH", "DK", "DV", "D", "L", "g", "t")
"""Names of no array."""


class Change(NamedTuple):
    """A change of one statement of a function."""

    module: str
    function: str
    old: str
    new: str
    effect: bool
    """Whether it is no mistake, but a factor that shows which numbers depend on the line."""

    @property
    def backward(self) -> bool:
        """Whether the line is in a backward."""
        return self.function.endswith("backward")


class Changes:
    """All changes of the functions in which the known mistakes of a subject are.

    Parameters
    ----------
    places : tuple
        Functions and classes.
    made : tuple[Bug, ...]
        Mistakes that the copy has in addition to each change.
    port : callable, optional
        As in :class:`Bug`.
    """

    def __init__(self, places: tuple[Any, ...], made: tuple[Bug, ...], port: Any = None) -> None:
        self.all: list[Change] = []
        self.places, self.port = places, port
        names = dict.fromkeys(place.__module__ for place in places)
        before = texts(*made, kernels=True)  # a compiled kernel does not check its arrays
        wanted = {place.__qualname__ for place in places}
        changed = {n: self._instrumented(n, before.get(n, source(n)), wanted) for n in names}
        self.copy = Copy({**before, **changed})
        self.modules = [self.copy.module(name) for name in names]

    def results(self, number: int, case: Any) -> dict[str, Any]:
        """Return the results of a case with one change."""
        for module in self.modules:
            module.CHANGE[0] = number
        return run(case, self.copy, self.port)

    def lines(self) -> Iterator[tuple[int, list[int]]]:
        """Yield for each line the number of its effect, and those of its changes."""
        start, numbers = -1, list[int]()
        for number, change in enumerate(self.all):
            if change.effect and start >= 0:
                yield start, numbers
            if change.effect:
                start, numbers = number, []
            else:
                numbers.append(number)
        if start >= 0:
            yield start, numbers

    def bug(self, number: int) -> Bug:
        """Return a change as a mistake."""
        change = self.all[number]
        places = tuple(place for place in self.places if place.__module__ == change.module)
        lines = [f"- {line}" for line in change.old.split("\n")]
        lines += [f"+ {line}" for line in change.new.split("\n")]
        said = f"the specification with one line of `{change.function}` changed"
        return Bug("one-line", (), places, "\n".join(lines), said, port=self.port)

    def _instrumented(self, module: str, text: str, wanted: set[str]) -> str:
        """Return the text of a module in which a number selects a change."""
        lines, tree = text.split("\n"), ast.parse(text)
        for function in reversed(list(_functions(tree, wanted))):
            known = _known(function)
            for statement in reversed(list(_simple(function))):
                first, last = statement.lineno - 1, statement.end_lineno or 0
                old = lines[first:last]
                indent = old[0][: len(old[0]) - len(old[0].lstrip())]
                plain = "\n".join(line.removeprefix(indent).split("  #")[0] for line in old)
                start = len(self.all)
                names = {name for name, line in known.items() if line <= first}
                for effect, new in _changed(statement, names):
                    self.all.append(Change(module, function.name, plain, new, effect))
                new = [f"{indent}if {start} <= CHANGE[0] < {len(self.all)}:", f"{indent}    pass"]
                for n in range(start, len(self.all)):
                    new.append(f"{indent}    if CHANGE[0] == {n}: {self.all[n].new}")
                new += [f"{indent}else:", *("    " + line for line in old)]
                lines[first:last] = new
        return "\n".join([*lines, "CHANGE = [-1]", MORE, ""])


MORE = "from numpy_xlstm.conformance.bugs.changes import more as MORE"


def more(value: Any) -> Any:
    """Return a slightly different value."""
    if isinstance(value, tuple | list):
        found = [more(each) for each in value]
        return type(value)(*found) if hasattr(value, "_fields") else type(value)(found)
    if isinstance(value, dict):
        return {name: more(each) for name, each in value.items()}
    if isinstance(value, np.ndarray) and value.dtype.kind == "b":
        return ~value
    if isinstance(value, np.ndarray) and value.dtype.kind in "fc":
        return value * value.dtype.type(1.03125) + value.dtype.type(0.03125)
    return value


def _functions(tree: ast.Module, wanted: set[str]) -> Iterator[ast.FunctionDef]:
    """Yield the wanted functions, and the methods of wanted classes that compute."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name in wanted:
            yield node
        elif isinstance(node, ast.ClassDef) and node.name in wanted:
            methods = [each for each in node.body if isinstance(each, ast.FunctionDef)]
            yield from (each for each in methods if not each.name.startswith("__"))


def _known(function: ast.FunctionDef) -> dict[str, int]:
    """Return the names of the arguments and variables of a function, and their first lines."""
    found = {arg.arg: function.lineno for arg in function.args.args}
    names = [n for n in ast.walk(function) if isinstance(n, ast.Name)]
    for node in sorted(names, key=lambda n: -n.lineno):
        if isinstance(node.ctx, ast.Store):
            found[node.id] = node.lineno
    return {name: line for name, line in found.items() if name not in SIZES}


def _simple(function: ast.FunctionDef) -> Iterator[ast.stmt]:
    """Yield the statements of a function that compute, in their order."""
    kinds = ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Return, ast.Expr
    found = [n for n in ast.walk(function) if isinstance(n, kinds) and n.value is not None]
    docstring = function.body[0]
    yield from sorted((n for n in found if n is not docstring), key=lambda n: n.lineno)


def _changed(statement: Any, names: set[str]) -> Iterator[tuple[bool, str]]:
    """Yield whether it only shows an effect, and the text, for each change of a statement."""
    value = statement.value
    if isinstance(statement, ast.Expr):
        yield True, "pass"
    else:
        for new in (f"MORE({ast.unparse(value)})", f"0 * ({ast.unparse(value)})"):
            statement.value = ast.Name(new)
            yield new.startswith("MORE"), ast.unparse(statement)
        statement.value = value
    yield from ((False, text) for text in _swapped(statement, names))
    for parent in list(ast.walk(statement)):
        for field, child in list(ast.iter_fields(parent)):
            targets = isinstance(parent, ast.Assign) and field == "targets"
            if isinstance(child, list) and not targets:
                for n, each in enumerate(child):
                    for other in _others(each, names):
                        child[n] = other
                        yield False, ast.unparse(statement)
                    child[n] = each
            elif isinstance(child, ast.expr) and field not in ("target", "func"):
                for other in _others(child, names):
                    setattr(parent, field, other)
                    yield False, ast.unparse(statement)
                setattr(parent, field, child)


def _swapped(statement: Any, names: set[str]) -> Iterator[str]:
    """Yield a statement with two names in place of each other."""
    used = [n for n in ast.walk(statement.value) if isinstance(n, ast.Name) and n.id in names]
    for a, b in combinations(sorted({node.id for node in used}), 2):
        if _alike(a, b):
            before = [node.id for node in used]
            for node in used:
                node.id = {a: b, b: a}.get(node.id, node.id)
            yield ast.unparse(statement)
            for node, name in zip(used, before, strict=True):
                node.id = name


def _others(node: Any, names: set[str]) -> Iterator[Any]:
    """Yield expressions that may be written by mistake in place of one."""
    match node:
        case ast.BinOp(left, ast.Add() | ast.Sub() as op, right):
            yield from (left, right, ast.UnaryOp(ast.USub(), right))
            yield ast.BinOp(left, ast.Sub() if isinstance(op, ast.Add) else ast.Add(), right)
            yield ast.Call(ast.Name("np.maximum"), [left, right], [])
        case ast.BinOp(left, ast.Mult() | ast.Div() as op, right):
            yield from (left, right)
            yield ast.BinOp(left, ast.Div() if isinstance(op, ast.Mult) else ast.Mult(), right)
            if isinstance(op, ast.Div):
                yield ast.BinOp(left, op, ast.Call(ast.Name("np.maximum"), [right, ast.Constant(1)], []))
                for eps in (1e-5, 1e-6, 1e-8):
                    yield ast.BinOp(left, op, ast.BinOp(right, ast.Add(), ast.Constant(eps)))
        case ast.UnaryOp(ast.USub(), operand):
            yield operand
        case ast.Compare(left, [op], [right]):
            strict = {ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Lt: ast.LtE, ast.LtE: ast.Lt}
            if type(op) in strict:
                yield ast.Compare(left, [strict[type(op)]()], [right])
                yield ast.Compare(right, [op], [left])
        case ast.Name(name, ast.Load()):
            yield from (ast.Name(other) for other in sorted(names) if _alike(name, other))
        case ast.Constant(value) if type(value) in (int, float):
            yield from (ast.Constant(value + 1), ast.Constant(value - 1))
        case ast.Constant(str(value)) if "->" in value:
            for n in range(len(value) - 1):
                if value[n : n + 2].isalpha():
                    turned = value[:n] + value[n + 1] + value[n] + value[n + 2 :]
                    yield ast.Constant(turned)
        case ast.Call(func, args, keywords):
            name = ast.unparse(func)
            for n, arg in enumerate(args):
                if not isinstance(arg, ast.Constant | ast.Starred) and name != "range":
                    yield arg
                    if n and n == len(args) - 1:
                        turned = [*args[:-2], args[-1], args[-2]]
                        yield ast.Call(func, turned, keywords)
            if name == "maximum":
                yield ast.BinOp(args[0], ast.Add(), args[1])
            if name in ACTIVATIONS:
                yield from (ast.Call(ast.Name(o), args, []) for o in ACTIVATIONS if o != name)
                a = ast.unparse(args[0])
                yield from (ast.Name(f"(1 - ({a}) ** 2)"), ast.Name(f"(({a}) * (1 - ({a})))"))
            if name.endswith(".sum"):
                yield ast.Call(ast.Attribute(func.value, "mean"), args, keywords)  # type: ignore[attr-defined]


def _alike(name: str, other: str) -> bool:
    """Return whether two names have the same letter or the same prefix and suffix."""
    a, b = AFFIXES.fullmatch(name), AFFIXES.fullmatch(other)
    if a is None or b is None or name == other or len(a[3]) > 2 or len(b[3]) > 2:
        return False
    return bool(a[3] == b[3] or a.group(1, 2, 4) == b.group(1, 2, 4))
