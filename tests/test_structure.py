"""No file of the package imports itself through others."""

import ast
import functools
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1] / "numpy_xlstm"


@functools.cache
def imports(root: Path) -> dict[str, set[str]]:
    """Return the files that each file of a package imports, also in functions and for types."""
    files = {_name(root, path): path for path in root.rglob("*.py")}
    return {name: _imported(path, files) - {name} for name, path in files.items()}


def _name(root: Path, path: Path) -> str:
    parts = path.relative_to(root.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def _imported(path: Path, files: Mapping[str, Path]) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: expected absolute imports"
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in files else str(node.module) for name in members}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            names |= {str(arg.value) for arg in node.args if isinstance(arg, ast.Constant)}
    return names & files.keys()


def circles(graph: Mapping[str, set[str]]) -> list[set[str]]:
    """Return the sets of files that reach each other."""
    reached = {name: _reached(graph, name) for name in graph}
    groups = {
        frozenset(other for other in reached[name] if name in reached[other]) for name in graph
    }
    return [set(group) for group in groups if group]


def _reached(graph: Mapping[str, set[str]], start: str) -> set[str]:
    reached, new = set[str](), {start}
    while new:
        new = set().union(*(graph[name] for name in new)) - reached
        reached |= new
    return reached


def test_no_circle_between_files() -> None:
    graph = imports(ROOT)
    assert len(graph) > 150
    assert circles(graph) == []


def test_a_circle_is_found(tmp_path: Path) -> None:
    """Imports for types alone, within functions and of names in strings count."""
    files = {
        "__init__": "from part.low import x",
        "low": "import typing\nif typing.TYPE_CHECKING:\n    from part.middle import y",
        "middle": "def f():\n    from part import high",
        "high": "import_module('part.low')",
        "alone": "from part import x",
    }
    (tmp_path / "part").mkdir()
    for name, text in files.items():
        (tmp_path / "part" / f"{name}.py").write_text(text)
    assert circles(imports(tmp_path / "part")) == [{"part.low", "part.middle", "part.high"}]
