"""AdamW's state as PyTorch's optimizers have it, and the file in which it travels.

``{"state": {index: {"step", "exp_avg", "exp_avg_sq"}}, "param_groups": [...]}``, where the
parameters of one group after the other are counted. Groups with ``param_names`` explain themselves;
those of an optimizer that was made without names need the order of ``named_parameters()``.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from numpy_xlstm.checkpoints import read_arrays, write_arrays
from numpy_xlstm.errors import CheckpointError, OptionError, ShapeError
from numpy_xlstm.models.layouts import in_layout
from numpy_xlstm.models.names import from_transformers_names, unwrapped
from numpy_xlstm.models.state_dict import official_arrays
from numpy_xlstm.module import some
from numpy_xlstm.numerics import Array, check_kind, plain_array

if TYPE_CHECKING:
    from numpy_xlstm.training.optimizers import AdamW

MOMENTS = {"exp_avg": "m", "exp_avg_sq": "v"}
"""What PyTorch calls the moments, and what they are called here."""

SHARED = "lr", "betas", "eps"
"""The options that all groups have alike."""

FIXED = {"amsgrad": False, "maximize": False, "decoupled_weight_decay": True}
"""The options of PyTorch that have one value here."""


class Place(NamedTuple):
    """Where the state of a parameter is: its number, and the options of its group."""

    number: int
    group: Mapping[str, Any]


def to_torch(optimizer: "AdamW", order: Sequence[str] | None, layout: str) -> dict[str, Any]:
    """Return the state of an optimizer in PyTorch's form, see :meth:`AdamW.state_dict`."""
    moments = {key: in_layout(getattr(optimizer, kind), layout) for key, kind in MOMENTS.items()}
    shared = {option: getattr(optimizer, option) for option in SHARED}
    state: dict[int, dict[str, Array]] = {}
    param_groups = []
    for decay, group in _groups(optimizer, order):
        indices = [*range(len(state), len(state) + len(group))]
        for index, name in zip(indices, group.values(), strict=True):
            of_name = {key: arrays[name] for key, arrays in moments.items()}
            state[index] = {"step": np.array(optimizer.t, np.float32), **of_name}
        names = {"params": indices, "param_names": [*group]}
        param_groups.append({**names, **shared, "weight_decay": decay, **FIXED})
    return {"state": state if optimizer.t else {}, "param_groups": param_groups}


def from_torch(
    optimizer: "AdamW", state: Mapping[str, Any], order: Sequence[str] | None, layout: str | None
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return what our ``state_dict()`` would hold, and the options, of what PyTorch's holds."""
    entries, groups = _checked(state)
    places = [Place(index, group) for group in groups for index in group["params"]]
    named = dict(zip(_names(optimizer, groups, order), places, strict=True))
    options = _options(optimizer, named)
    if not entries:
        return {n: np.zeros_like(array) for n, array in optimizer.state_dict().items()}, options
    steps = [_entry(entries, name, place, "step").ravel() for name, place in named.items()]
    arrays = {"t": np.array(_same_step(np.concatenate(steps)))}
    for key, kind in MOMENTS.items():
        theirs = {name: _entry(entries, name, place, key) for name, place in named.items()}
        moments = official_arrays(theirs, getattr(optimizer, kind), None, layout)
        arrays |= {f"{kind}.{name}": array for name, array in moments.items()}
    return arrays, options


def _groups(optimizer: "AdamW", order: Sequence[str] | None) -> list[tuple[float, dict[str, str]]]:
    """What decays, and what does not: the decay, and their names in ``order`` with ours."""
    named = _our_names(optimizer, [*optimizer.m] if order is None else order)
    groups: dict[bool, dict[str, str]] = {True: {}, False: {}}
    for theirs, ours in named.items():
        groups[bool(optimizer.decays(ours, optimizer.m[ours]))][theirs] = ours
    return [(optimizer.weight_decay * decays, group) for decays, group in groups.items() if group]


def _our_names(optimizer: "AdamW", names: Sequence[str]) -> dict[str, str]:
    """Names in wrappers or in transformers, of all parameters, and what is called so here."""
    ours = from_transformers_names(unwrapped({name: name for name in names}))
    wrong = [*Counter([*names]) - Counter(ours.values())]  # those that are there twice
    wrong += ours.keys() - optimizer.m.keys()
    if wrong or len(ours) != len(optimizer.m):
        missing = optimizer.m.keys() - ours.keys()
        raise ShapeError(
            f"names: expected each parameter once, {some(missing)} too; got {some(wrong)}"
        )
    return {theirs: name for name, theirs in ours.items()}


def _checked(state: Mapping[str, Any]) -> tuple[Mapping[int, Any], list[Mapping[str, Any]]]:
    """Return the two parts of a state, or raise :class:`OptionError` if it has not got them."""
    check_kind("state", state, Mapping)
    entries, groups = state.get("state"), state.get("param_groups")
    if not isinstance(entries, Mapping) or not isinstance(groups, list) or not groups:
        raise OptionError(
            "state: expected state and param_groups, as of a torch.optim.AdamW; "
            f"got {some({str(name) for name in state})}"
        )
    for n, group in enumerate(groups):
        indices = group.get("params") if isinstance(group, Mapping) else None
        if not isinstance(indices, list) or not all(type(index) is int for index in indices):
            raise OptionError(f"param_groups[{n}]: expected params by index; got {indices!r}")
        names = group.get("param_names", [])
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise OptionError(f"param_groups[{n}]: expected param_names of text; got {names!r}")
        for option, value in FIXED.items():
            if (got := group.get(option, value)) != value:
                raise OptionError(f"param_groups[{n}]: {option}: expected {value}; got {got!r}")
    found = Counter(index for group in groups for index in group["params"])
    if max(found.values(), default=1) > 1 or (entries and entries.keys() != found.keys()):
        raise ShapeError(
            f"state: expected an entry for each of params, {some({*map(str, found)})}; "
            f"got {some({*map(str, entries)})}"
        )
    return entries, groups


def _names(
    optimizer: "AdamW", groups: Sequence[Mapping[str, Any]], order: Sequence[str] | None
) -> list[str]:
    """Our names of the parameters, one group after the other."""
    if all("param_names" in group for group in groups):
        named = [list(group["param_names"]) for group in groups]
    elif order is None:
        raise OptionError(
            "order: expected the names of named_parameters(), as param_groups have none; got None"
        )
    else:
        named = [[*order]] if len(groups) == 1 else [[*g] for _, g in _groups(optimizer, order)]
    sizes = [len(names) for names in named], [len(group["params"]) for group in groups]
    if sizes[0] != sizes[1]:
        raise ShapeError(
            "param_groups: expected as many parameters as there are names of what decays, and "
            f"of what does not, {sizes[0]}; got {sizes[1]}"
        )
    return [*_our_names(optimizer, [name for names in named for name in names]).values()]


def _options(optimizer: "AdamW", named: Mapping[str, Place]) -> dict[str, Any]:
    """The options of all groups, where the decay is that of what decays here."""
    decaying = [name for name in named if optimizer.decays(name, optimizer.m[name])]
    options = {option: _option(next(iter(named.values())), option) for option in SHARED}
    options["weight_decay"] = optimizer.weight_decay
    if decaying:
        options["weight_decay"] = _option(named[decaying[0]], "weight_decay")
    for name, place in named.items():
        for option, value in options.items():
            expected = 0 if option == "weight_decay" and name not in decaying else value
            if (got := _option(place, option)) != expected:
                raise OptionError(f"{option}: expected {expected} for {name}; got {got!r}")
    return options


def _option(place: Place, option: str) -> Any:
    """An option of PyTorch's: the learning rate is that before the schedule."""
    found = place.group.get(option)
    if option == "lr":
        return place.group.get("initial_lr", found)
    return tuple(found) if isinstance(found, list) else found


def _same_step(steps: Array) -> int:
    found = np.unique(steps)
    if len(found) != 1 or found.dtype.kind not in "iuf" or not float(found[0]).is_integer():
        raise OptionError(f"step: expected one whole number for all parameters; got {found}")
    return int(found[0])


def _entry(entries: Mapping[int, Any], name: str, place: Place, key: str) -> Array:
    entry = entries.get(place.number)
    if not isinstance(entry, Mapping) or key not in entry:
        raise ShapeError(f"state[{place.number}]: expected {key} of {name}; got none")
    return plain_array(key, entry[key])


def write_torch_state(path: str | Path, state: Mapping[str, Any]) -> None:
    """Write a state in PyTorch's form to a ``.safetensors``, for PyTorch or from it.

    Arrays are called ``0.step``, ``0.exp_avg``, ``0.exp_avg_sq``, ``1.step``, …, and
    ``param_groups`` are in the metadata, in the JSON under the key ``numpy_xlstm``. A program that
    has PyTorch alone reads and writes this in a few lines, see ``docs/cluster.md``.

    Parameters
    ----------
    path : str or Path
        A ``.safetensors``.
    state : Mapping
        As ``AdamW.state_dict(format="torch")`` or the ``state_dict()`` of ``torch.optim.AdamW``.

    Raises
    ------
    OptionError, ShapeError
        If it is no such state.
    CheckpointError
        If the suffix is another, or the file cannot hold the state.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> from numpy_xlstm import LSTM, AdamW, LanguageModel
    >>> optimizer = AdamW(LanguageModel(10, 4, LSTM(4, 8)).params, weight_decay=0.3)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_torch_state(f"{folder}/a.safetensors", optimizer.state_dict(format="torch"))
    ...     state = read_torch_state(f"{folder}/a.safetensors")
    >>> [group["weight_decay"] for group in state["param_groups"]]
    [0.3, 0.0]
    """
    entries, groups = _checked(state)
    arrays = {
        f"{n}.{key}": np.asarray(a) for n, entry in entries.items() for key, a in entry.items()
    }
    write_arrays(path, arrays, {"param_groups": groups})


def read_torch_state(path: str | Path) -> dict[str, Any]:
    """Read what :func:`write_torch_state` has written, or PyTorch likewise.

    Parameters
    ----------
    path : str or Path
        A ``.safetensors``.

    Returns
    -------
    dict
        ``state`` and ``param_groups``, which ``load_state_dict`` takes, here and there.

    Raises
    ------
    CheckpointError
        If the file is damaged, or holds something else.
    OSError
        If there is no such file, or it cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> from numpy_xlstm import LSTM, AdamW
    >>> optimizer = AdamW(LSTM(3, 4).params)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_torch_state(f"{folder}/a.safetensors", optimizer.state_dict(format="torch"))
    ...     optimizer.load_state_dict(read_torch_state(f"{folder}/a.safetensors"))
    """
    arrays, metadata = read_arrays(path)
    state: dict[int, dict[str, Array]] = {}
    for name, array in arrays.items():
        index, _, key = name.partition(".")
        if not index.isdecimal():
            raise CheckpointError(f"{Path(path).name}: expected names such as 0.step; got {name}")
        state.setdefault(int(index), {})[key] = array
    found = {"state": state, "param_groups": metadata.get("param_groups")}
    try:
        _checked(found)
    except (OptionError, ShapeError) as error:
        raise CheckpointError(f"{Path(path).name}: {error}") from error
    return found
