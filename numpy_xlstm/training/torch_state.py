"""Conversion of AdamW's state from and to the form of PyTorch's optimisers.

``{"state": {index: {"step", "exp_avg", "exp_avg_sq"}}, "param_groups": [...]}``, where indices
count the parameters of all groups in order. Groups may contain ``param_names``. Groups
without them need the order of ``named_parameters()``.

``arrays`` and ``options`` are the ``state_dict()`` and the ``options`` of an AdamW.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from numpy_xlstm.config import Config
from numpy_xlstm.errors import OptionError, ShapeError
from numpy_xlstm.models.layouts import in_layout
from numpy_xlstm.models.names import from_transformers_names, unwrapped
from numpy_xlstm.models.state_dict import official_arrays
from numpy_xlstm.module import some
from numpy_xlstm.numerics import Array, plain_array

MOMENTS = {"exp_avg": "m.", "exp_avg_sq": "v."}
"""PyTorch's names of the moments, and their prefixes in this package."""

Arrays = Mapping[str, Array]
Names = Sequence[str]
Options = Mapping[str, Any]


@dataclass(frozen=True)
class Group(Config):
    """A group of parameters with common options, some of which have only one supported value."""

    params: list[int]
    lr: float
    betas: tuple[float, float]
    eps: float
    weight_decay: float
    param_names: list[str] | None = None
    initial_lr: float | None = None
    amsgrad: Literal[False] = False
    maximize: Literal[False] = False
    decoupled_weight_decay: Literal[True] = True

    @property
    def options(self) -> dict[str, Any]:
        """Options of AdamW; the learning rate is that before the schedule."""
        names = "lr" if self.initial_lr is None else "initial_lr", "betas", "eps", "weight_decay"
        return {name.removeprefix("initial_"): getattr(self, name) for name in names}


def to_torch(arrays: Arrays, options: Options, order: Names | None, layout: str) -> dict[str, Any]:
    """Return a state in PyTorch's form, see :meth:`AdamW.state_dict`."""
    moments = {key: in_layout(_moments(arrays, kind), layout) for key, kind in MOMENTS.items()}
    steps, shared = arrays["t"], {name: options[name] for name in ("lr", "betas", "eps")}
    fixed = {"amsgrad": False, "maximize": False, "decoupled_weight_decay": True}
    state: dict[int, dict[str, Array]] = {}
    param_groups = []
    ours = _our_names(arrays, order)
    for group in _by_decay(ours, options["decays"]):
        indices = [*range(len(state), len(state) + len(group))]
        for index, name in zip(indices, group, strict=True):
            entry = {key: moment[ours[name]] for key, moment in moments.items()}
            state[index] = {"step": np.array(steps, np.float32), **entry}
        decay = options["weight_decay"] if ours[group[0]] in options["decays"] else 0.0
        names = {"params": indices, "param_names": group}
        param_groups.append({**names, **shared, "weight_decay": decay, **fixed})
    return {"state": state if steps else {}, "param_groups": param_groups}


def from_torch(
    arrays: Arrays, options: Options, state: Any, order: Names | None, layout: str | None
) -> tuple[dict[str, Array], dict[str, Any]]:
    """Return the arrays and options of a state in PyTorch's form, for the same parameters."""
    entries, groups = _checked(state)
    names = _names(arrays, options, groups, order)
    indices = [index for group in groups for index in group.params]
    new_options = _options(groups, names, options)
    if not entries:  # before the first step
        return {name: np.zeros_like(array) for name, array in arrays.items()}, new_options
    places = dict(zip(names, indices, strict=True))
    new = {"t": np.array(_step(_values(entries, places, "step")))}
    for key, kind in MOMENTS.items():
        theirs = _values(entries, places, key)
        moments = official_arrays(theirs, _moments(arrays, kind), None, layout)
        new |= {kind + name: array for name, array in moments.items()}
    return new, new_options


def _moments(arrays: Arrays, kind: str) -> dict[str, Array]:
    return {n.removeprefix(kind): array for n, array in arrays.items() if n.startswith(kind)}


def _our_names(arrays: Arrays, order: Names | None) -> dict[str, str]:
    """Map the names of all parameters, as in wrappers or in transformers, to ours."""
    params = _moments(arrays, "m.")
    names = [*params] if order is None else order
    ours = from_transformers_names(unwrapped({name: name for name in names}))
    wrong = [*Counter([*names]) - Counter(ours.values())]  # duplicates
    wrong += ours.keys() - params.keys()
    if wrong or len(ours) != len(params):
        raise ShapeError(
            f"names: expected each parameter once; missing: {some(params.keys() - ours.keys())}; "
            f"unknown or repeated: {some(wrong)}"
        )
    return {theirs: name for name, theirs in ours.items()}


def _by_decay(ours: Mapping[str, str], decays: Names) -> list[list[str]]:
    decaying = [theirs for theirs, name in ours.items() if name in decays]
    others = [theirs for theirs in ours if theirs not in decaying]
    return [group for group in (decaying, others) if group]


def _checked(state: Mapping[str, Any]) -> tuple[Mapping[int, Any], list[Group]]:
    entries, groups = state.get("state"), state["param_groups"]
    if not isinstance(entries, Mapping) or not isinstance(groups, list) or not groups:
        raise OptionError(
            "state: expected state and param_groups, as in torch.optim.AdamW; "
            f"got {some({str(name) for name in state})}"
        )
    read = [
        Group.from_dict(group, others=True, place=f"param_groups[{n}]")
        for n, group in enumerate(groups)
    ]
    counts = Counter(index for group in read for index in group.params)
    if max(counts.values(), default=1) > 1 or (entries and entries.keys() != counts.keys()):
        raise ShapeError(
            f"state: expected an entry for each of params, {some({*map(str, counts)})}; "
            f"got {some({*map(str, entries)})}"
        )
    return entries, read


def _names(arrays: Arrays, options: Options, groups: list[Group], order: Names | None) -> list[str]:
    named = [group.param_names for group in groups if group.param_names is not None]
    if len(named) < len(groups):
        if order is None:
            expected = "the names of named_parameters(), as param_groups has none"
            raise OptionError(f"order: expected {expected}; got None")
        by_decay = _by_decay(_our_names(arrays, order), options["decays"])
        named = [[*order]] if len(groups) == 1 else by_decay
    counts, sizes = [len(names) for names in named], [len(group.params) for group in groups]
    if counts != sizes:
        raise ShapeError(
            "param_groups: expected as many parameters with and without decay as there are names, "
            f"{counts}; got {sizes}"
        )
    return [*_our_names(arrays, [name for names in named for name in names]).values()]


def _options(groups: Sequence[Group], names: Names, options: Options) -> dict[str, Any]:
    """Return the options of all groups; the decay is that of the parameters that decay here."""
    group_of = dict(zip(names, (group for group in groups for _ in group.params), strict=True))
    decays = [group.weight_decay for name, group in group_of.items() if name in options["decays"]]
    decay = decays[0] if decays else options["weight_decay"]
    common = groups[0].options | {"weight_decay": decay}
    for name, group in group_of.items():
        expected = common if name in options["decays"] else common | {"weight_decay": 0}
        for option, value in group.options.items():
            if value != expected[option]:
                raise OptionError(f"{option}: expected {expected[option]} for {name}; got {value}")
    return common


def _step(steps: Arrays) -> int:
    values = np.unique(np.concatenate([step.ravel() for step in steps.values()]))
    if len(values) != 1 or values.dtype.kind not in "iuf" or not float(values[0]).is_integer():
        raise OptionError(f"step: expected one whole number for all parameters; got {values}")
    return int(values[0])


def _values(entries: Mapping[int, Any], places: Mapping[str, int], key: str) -> dict[str, Array]:
    for name, index in places.items():
        if not isinstance(entries[index], Mapping) or key not in entries[index]:
            raise ShapeError(f"state[{index}]: expected {key} of {name}; got none")
    return {name: plain_array(key, entries[index][key]) for name, index in places.items()}
