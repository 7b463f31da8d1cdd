"""Small changes of single lines of the specification, all in one private copy of it.

They name mistakes that are in no list, and show on which lines wrong numbers depend. In the copy a
number selects a change::

    if 3 <= CHANGE[0] < 6:
        if CHANGE[0] == 3: n = MORE(f * n_prev + i)
        if CHANGE[0] == 4: n = f * n_prev
        if CHANGE[0] == 5: n = f * n_prev - i
    else:
        n = f * n_prev + i
"""

import ast
import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import combinations
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from numpy_xlstm.conformance.bugs.bug import NOT_COMPILED, Around, Bug, results, texts
from numpy_xlstm.conformance.copies import Copy, source
from numpy_xlstm.trees import places, rebuild

NOT_ARRAYS = ("self", "B", "T", "H", "NH", "DH", "DK", "DV", "D", "L", "g", "t")
"""Names that are not arrays."""
AFFIXES = re.compile(r"(d?)(log_)?([A-Za-z]{1,2}?)(_[a-z]+)?")
STATE = re.compile("d?[hcnmC](_prev|_next)?")
"""Parts of states and their gradients, which may be taken for any other array."""
ACTIVATIONS = ("np.tanh", "sigmoid", "np.exp", "tanh_slope", "sigmoid_slope")
GATES = "qkvifzoru"
BY_MISTAKE = {
    "whole": "MORE(a); 0 * a; -a; 2 * a; 0.5 * a; np.tanh(a); np.where(a.real < 0, -a, a)",
    "sum": "np.where(a.real < 0, -a, a)",
    "Add": "a; b; -b; a - b; np.maximum(a, b)",
    "Sub": "a; b; -b; a + b; b - a",
    "Mult": "a; b; a / b; 2 * a * b; a * b / 2",
    "Div": "a; a * b; 1 / b; np.tanh(a) / b; np.tanh(a / b); a / np.maximum(b, 1); "
    + "; ".join(f"a / (b + 1e-{n})" for n in (3, 4, 5, 6, 8)),
    "MatMult": "b.swapaxes(-1, -2) @ a.swapaxes(-1, -2); a[..., -1:] @ b[..., -1:, :]",
    "Gt": "a >= b; b > a",
    "GtE": "a > b; b >= a",
    "Lt": "a <= b; b < a",
    "maximum": "a + b",
    **dict.fromkeys(
        ACTIVATIONS,
        "1 - a * a; a * (1 - a); 1 - np.tanh(a); sigmoid(-a); tanh_slope(np.tanh(a)); "
        "sigmoid_slope(sigmoid(a)); " + "; ".join(f"{f}(a)" for f in ACTIVATIONS),
    ),
}
"""Expressions that may be written in place of an operation or function of a and b, or of a whole
value: of it, the first is a function that shows its effects."""
OPERANDS = re.compile(r"\b[ab]\b")
Operands = dict[str, list[ast.expr]]
"""Names of variables, and the parts of those that are a sum or the like."""


class Change(NamedTuple):
    """A change of one statement of a function."""

    module: str
    function: str
    old: str
    new: str


class Changes:
    """All changes of some functions and classes, in a copy that has the mistakes ``made``.

    Each change has the function ``around`` too, as in :class:`Bug`. ``lines`` has the indices in
    ``all`` of the changes of each line. The first is no possible mistake, but changes all numbers
    that depend on the line.
    """

    def __init__(
        self, functions: tuple[Any, ...], made: tuple[Bug, ...], around: Around | None = None
    ) -> None:
        self.all: list[Change] = []
        self.lines: list[range] = []
        self.functions, self.made = functions, made
        self.blank = Bug("one-line", (), (), "", "", around=around)
        before = texts(*made)
        wanted = {function.__qualname__ for function in functions}
        names = dict.fromkeys(function.__module__ for function in functions)
        changed = {n: self._instrumented(n, before.get(n, source(n)), wanted) for n in names}
        # a compiled kernel does not check its arrays; MORE is defined in each copied module
        others = NOT_COMPILED | {f"{name}:MORE": more for name in names}
        self.copy = Copy({**before, **changed}, functions=others)
        self.modules = [self.copy.module(name) for name in names]

    def results(self, number: int, case: Any) -> dict[str, Any]:
        """Return the results of a case with one change."""
        with _changing:
            for module in self.modules:
                module.CHANGE[0] = number
            return results(case, *self.made, self.blank, copy=self.copy)

    def bug(self, number: int) -> Bug:
        """Return a change as a mistake."""
        change = self.all[number]
        code = tuple(each for each in self.functions if each.__module__ == change.module)
        lines = [f"- {line}" for line in change.old.split("\n")]
        said = f"the specification with one line of `{change.function}` changed"
        new = "\n".join([*lines, f"+ {change.new}"])
        return self.blank._replace(code=code, change=new, description=said)

    def _instrumented(self, module: str, text: str, wanted: set[str]) -> str:
        """Return the text of a module in which a number selects a change."""
        lines, specification = text.split("\n"), source(module)
        for function in reversed(list(_functions(ast.parse(text), wanted))):
            known, formed = _known(function), _operands(function)
            for statement in reversed(list(_simple(function))):
                first, last = statement.lineno - 1, statement.end_lineno or 0
                old = lines[first:last]
                if "\n".join(old) not in specification:
                    continue  # a mistake has changed it already
                indent = old[0][: len(old[0]) - len(old[0].lstrip())]
                plain = "\n".join(line.removeprefix(indent).split("  #")[0] for line in old)
                start = len(self.all)
                names = {n: formed.get(n, []) for n, line in known.items() if line <= first}
                for changed in _changed(statement, names):
                    self.lines.append(range(len(self.all), len(self.all) + len(changed)))
                    self.all += [Change(module, function.name, plain, new) for new in changed]
                numbers = range(start, len(self.all))
                body = [f"{indent}if {start} <= CHANGE[0] < {len(self.all)}:", f"{indent}    pass"]
                body += [f"{indent}    if CHANGE[0] == {n}: {self.all[n].new}" for n in numbers]
                lines[first:last] = [*body, f"{indent}else:", *("    " + line for line in old)]
        return "\n".join([*lines, "CHANGE = [-1]", ""])


instrumented = lru_cache(maxsize=16)(Changes)
"""Return :class:`Changes`, which are made only once for the same arguments."""

_changing = Lock()


def more(value: Any) -> Any:
    """Return a value of the same kind whose arrays have other numbers."""

    def other(leaf: Any) -> Any:
        if not isinstance(leaf, np.ndarray):
            return leaf
        number = leaf.dtype.type
        return ~leaf if number is np.bool_ else leaf * number(1.03125) + number(0.03125)

    return rebuild(value, (other(leaf) for _, leaf in places("", value)))


def _functions(tree: ast.Module, wanted: set[str]) -> Iterator[ast.FunctionDef]:
    """Yield the wanted functions, and the methods of the wanted classes."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name in wanted:
            body = [node] if isinstance(node, ast.FunctionDef) else node.body
            functions = [each for each in body if isinstance(each, ast.FunctionDef)]
            yield from (f for f in functions if not f.name.startswith(("__", "decode_step")))


def _known(function: ast.FunctionDef) -> dict[str, int]:
    """Return the names of the arguments and variables of a function, and their first lines."""
    names = [n for n in ast.walk(function) if isinstance(n, ast.Name)]
    stores = [(n.id, n.lineno) for n in names if isinstance(n.ctx, ast.Store)]
    found = dict(sorted(stores, key=lambda store: -store[1]))  # the earliest of a name remains
    found |= {arg.arg: function.lineno for arg in function.args.args}
    return {name: line for name, line in found.items() if name not in NOT_ARRAYS}


def _operands(function: ast.FunctionDef) -> Operands:
    """Return the two parts of each variable that is a sum, a product, or the like."""
    sums = [n for n in ast.walk(function) if isinstance(n, ast.Assign)]
    return {
        ast.unparse(n.targets[0]): [n.value.left, n.value.right]
        for n in reversed(sums)  # the first assignment remains
        if isinstance(n.value, ast.BinOp)
    }


def _simple(function: ast.FunctionDef) -> Iterator[Any]:
    """Yield the statements of a function that compute, in their order."""
    kinds = ast.Assign, ast.AnnAssign, ast.AugAssign, ast.Return, ast.Expr
    found = [n for n in ast.walk(function) if isinstance(n, kinds) and n.value is not None]
    yield from sorted((n for n in found if n is not function.body[0]), key=lambda n: n.lineno)


def _changed(statement: Any, names: Operands) -> Iterator[list[str]]:
    """Yield the texts of a statement with changes of each part, first one that shows its effect."""
    whole = statement.value
    for part in whole.elts if isinstance(whole, ast.Tuple) else [whole]:
        wholes = [{id(part): other} for other in _by_mistake("whole", part)]
        variants = [*wholes, *_variants(part, names)]
        texts = [_text(statement, replaced) for replaced in variants]
        yield ["pass", *texts] if isinstance(statement, ast.Expr) else texts
    if isinstance(whole, ast.Tuple):
        orders = [[*whole.elts] for _ in combinations(whole.elts, 2)]
        for order, (a, b) in zip(orders, combinations(range(len(whole.elts)), 2), strict=True):
            order[a], order[b] = order[b], order[a]
        shown = _parsed(f"MORE({ast.unparse(whole)})")
        yield [_text(statement, {id(whole): new}) for new in (shown, *map(ast.Tuple, orders))]


def _text(statement: Any, replaced: dict[int, Any]) -> str:
    """Return the text of a statement with other nodes in place of some, given by their ids."""

    def new(node: Any) -> Any:
        if id(node) in replaced:
            return replaced[id(node)]
        if isinstance(node, list):
            return list(map(new, node))
        if not isinstance(node, ast.AST):
            return node
        return type(node)(**{name: new(value) for name, value in ast.iter_fields(node)})

    return ast.unparse(ast.copy_location(new(statement), statement))


def _variants(part: Any, names: Operands) -> Iterator[dict[int, Any]]:
    """Yield the nodes of each small change in place of others, given by their ids."""
    used = [n for n in ast.walk(part) if isinstance(n, ast.Name) and n.id in names]
    for a, b in combinations(sorted({node.id for node in used}), 2):
        if _alike(a, b):
            swapped = {a: b, b: a}
            yield {id(node): ast.Name(swapped[node.id]) for node in used if node.id in swapped}
    nodes = [node for node in ast.walk(part) if isinstance(node, ast.expr)]
    functions = [node.func for node in nodes if isinstance(node, ast.Call)]
    for node in nodes:
        if node not in functions:
            yield from ({id(node): other} for other in _others(node, names))


def _others(node: Any, names: Operands) -> Iterator[Any]:
    """Yield expressions that may be written by mistake in place of one."""
    match node:
        case ast.BinOp(a, op, b) | ast.Compare(a, [op], [b]):
            yield from _by_mistake(type(op).__name__, a, b)
            yield from _inside(a, op, b)
            yield from _grouped(a, op, b)
        case ast.Name(name, ast.Load()):
            yield from _other_names(name, names)
        case ast.Attribute(ast.Name("self"), "forget_gate" | "input_gate"):
            yield from map(ast.Constant, ("sigmoid", "exp"))
        case ast.Subscript(value, ast.Tuple([*most, ast.Slice() as last])) if most:
            yield ast.Subscript(value, ast.Tuple([*most[:-1], last, most[-1]]))
            yield ast.Subscript(value, ast.Tuple(most))
        case ast.Call(ast.Attribute(value, "sum"), args, keywords):
            yield ast.Call(ast.Attribute(value, "mean"), args, keywords)
            (positive,) = _by_mistake("sum", value)
            yield ast.Call(ast.Attribute(positive, "sum"), args, keywords)
        case ast.Call(func, args) if args and ast.unparse(func) != "range":
            yield from _calls(node)
            yield from _by_mistake(ast.unparse(func), *args[:2])
        case ast.UnaryOp(ast.USub(), operand):
            yield operand
        case ast.IfExp(_, body, other):
            yield from (body, other)
        case ast.Constant():
            yield from map(ast.Constant, _constants(node.value))


def _other_names(name: str, names: Operands) -> Iterator[ast.expr]:
    """Yield similar names, one row or head for all, parts of a sum, and other gates."""
    if name in names:
        yield from map(_parsed, (f"{name}[:1]", f"{name}[:, :1]"))
    alike = [other for other in sorted(names) if _alike(name, other)]
    yield from map(ast.Name, alike)
    yield from names.get(name, ())
    if name in GATES:
        yield _parsed(f"(1 - {name})")
    pre = f"{name}_pre"
    if name.endswith("_pre"):
        yield _parsed(f"{name} + 1")
    elif pre in names:
        log_gate = f"np.exp(log_gate({pre}, self.forget_gate))"
        yield from map(_parsed, (f"sigmoid({pre})", f"np.exp({pre})", log_gate))
    parts = [other for other in sorted(names) if STATE.fullmatch(other) and other not in alike]
    yield from (ast.Name(other) for other in parts if (other[0] == "d") == (name[0] == "d"))


def _inside(a: ast.expr, op: Any, b: ast.expr) -> Iterator[ast.expr]:
    """Yield f(x + b, y) and f(x, y + b) in place of f(x, y) + b and of b + f(x, y)."""
    for call, other in ((a, b), (b, a)):
        if isinstance(op, ast.Add) and isinstance(call, ast.Call):
            for n, arg in enumerate(call.args):
                args = [*call.args[:n], ast.BinOp(arg, op, other), *call.args[n + 1 :]]
                yield ast.Call(call.func, args, call.keywords)


def _grouped(a: ast.expr, op: Any, b: ast.expr) -> Iterator[ast.expr]:
    """Yield (a + x) y and x (a + y) in place of a + x y and of x y + a."""
    for product, other in ((a, b), (b, a)):
        match product:
            case ast.BinOp(x, ast.Mult(), y) if isinstance(op, ast.Add):
                yield ast.BinOp(ast.BinOp(other, op, x), ast.Mult(), y)
                yield ast.BinOp(x, ast.Mult(), ast.BinOp(other, op, y))


def _last_of_sum(einsum: Any) -> Iterator[ast.expr]:
    """Yield an einsum with the last term of a sum alone, as if it were assigned and not added."""
    letters, *arrays = einsum.args
    given, _, kept = letters.value.partition("->")
    for letter in sorted({*given} - {*kept, ","}):
        last = []
        for own, array in zip(given.split(","), arrays, strict=True):
            at = ", ".join("-1:" if each == letter else ":" for each in own)
            last.append(_parsed(f"({ast.unparse(array)})[{at}]"))
        yield ast.Call(einsum.func, [letters, *last], einsum.keywords)


def _constants(value: Any) -> Iterator[Any]:
    """Yield other numbers, other letters of gates, and other orders of axes."""
    if type(value) in (int, float):
        yield from (value + 1, value - 1)
    elif isinstance(value, str) and len(value) == 1 and value in GATES:
        yield from (other for other in GATES if other != value)
    elif isinstance(value, str) and "->" in value:
        for n in range(len(value) - 1):
            if value[n : n + 2].isalpha():
                yield value[:n] + value[n + 1] + value[n] + value[n + 2 :]


def _calls(node: ast.Call) -> Iterator[ast.expr]:
    """Yield the arguments of a call, and the call with one reversed or the last two exchanged."""
    func, args, keywords = node.func, node.args, node.keywords
    named = not any(isinstance(arg, ast.Starred) for arg in args)
    if named and isinstance(args[0], ast.Constant) and "->" in str(args[0].value):
        yield from _last_of_sum(node)
    for n, arg in enumerate(args):
        if not isinstance(arg, ast.Constant | ast.Starred):
            yield arg
        if isinstance(arg, ast.Name | ast.Attribute):
            for other in ("{}[::-1]", "-{}"):
                turned = _parsed(other.format(ast.unparse(arg)))
                yield ast.Call(func, [*args[:n], turned, *args[n + 1 :]], keywords)
    if len(args) > 1:
        yield ast.Call(func, [*args[:-2], args[-1], args[-2]], keywords)


def _by_mistake(operation: str, *operands: ast.expr) -> Iterator[ast.expr]:
    """Yield the expressions that may be written in place of an operation."""
    known = dict(zip("ab", [f"({ast.unparse(each)})" for each in operands], strict=False))
    for text in BY_MISTAKE.get(operation, "").split("; "):
        if text and text != f"{operation}(a)":
            yield _parsed(OPERANDS.sub(lambda found: known[found[0]], text))


@lru_cache(maxsize=4096)
def _parsed(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def _alike(name: str, other: str) -> bool:
    """Return whether two names have the same letter or the same prefix and suffix."""
    a, b = AFFIXES.fullmatch(name), AFFIXES.fullmatch(other)
    if a is None or b is None or name == other:
        return False
    return a[3] == b[3] or a.group(1, 2, 4) == b.group(1, 2, 4)
