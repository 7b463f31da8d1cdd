"""Parameters as a tree of their dotted names, for ``repr`` and the command line."""

from collections.abc import Mapping
from typing import Any


def outline(title: str, params: Mapping[str, Any], indent: str = "") -> str:
    """Return a text with arrays, or objects with shape and dtype, as a tree of dotted names."""
    lines = [f"{title}  {sum(array.size for array in params.values()):,}"]
    branches: dict[str, dict[str, Any]] = {}
    for name, array in params.items():
        head, _, rest = name.partition(".")
        branches.setdefault(head, {})[rest] = array
    for head, below in branches.items():
        last = head == next(reversed(branches))
        if "" in below:
            drawn = f"{head}  {below[''].shape} {below[''].dtype}  {below[''].size:,}"
        else:
            drawn = outline(head, below, indent + ("   " if last else "│  "))
        lines.append(f"{indent}{'└─ ' if last else '├─ '}{drawn}")
    return "\n".join(lines)
