"""The set in the package is small, matches its schema, and equals the current results."""

import json
from typing import Any

import jsonschema
import numpy as np
import pytest

from numpy_xlstm.conformance import FLAGS, SMALL, Case, read_vectors
from numpy_xlstm.conformance.bounds import FORMATS, TRUTH, magnitude, scales
from numpy_xlstm.gradcheck.axes import Axes
from tests.conformance.make import small_cases

STORED = read_vectors(SMALL)
MADE = {case.id: case for case in small_cases()}
WIDE = np.finfo(TRUTH).nmant > np.finfo(np.float64).nmant
"""Whether longdouble is wider than float64 here, so that results round to neighbours."""
MANIFEST = json.loads((SMALL / "manifest.json").read_text("utf-8"))
SCHEMA = json.loads((SMALL.parent / "manifest.schema.json").read_text("utf-8"))


def test_it_is_small() -> None:
    assert sum(path.stat().st_size for path in SMALL.rglob("*") if path.is_file()) < 1_000_000


def test_it_has_every_flag() -> None:
    assert {flag for case in STORED for flag in case.flags} == FLAGS.keys()


def test_no_file_is_of_no_case() -> None:
    said = {file["path"] for case in MANIFEST["cases"] for file in case["files"].values()}
    found = {
        str(path.relative_to(SMALL).as_posix()) for path in SMALL.rglob("*.*") if path.is_file()
    }
    assert found == said | {"manifest.json"}


@pytest.mark.parametrize("case", STORED)
def test_it_is_what_is_computed(case: Case) -> None:
    made = MADE[case.id]
    assert (case.options, case.flags, case.dtype) == (made.options, made.flags, made.dtype)
    assert case.inputs.keys() == made.inputs.keys()
    for name, array in case.inputs.items():
        np.testing.assert_array_equal(array, made.inputs[name], strict=True)
    assert case.expected.keys() == made.expected.keys() == case.bounds.keys()
    for name, array in case.expected.items():
        assert (array.dtype, array.shape) == (made.expected[name].dtype, made.expected[name].shape)
        apart = np.abs(np.where(array == made.expected[name], 0, array - made.expected[name]))
        assert (apart <= case.bounds[name] / 4).all(), name
        if WIDE:
            last_place = np.spacing(magnitude(array).astype(array.dtype))
            near = np.maximum(last_place, 1e-15 * magnitude(array).max(initial=0))
            assert (apart <= near).all(), name
        assert (made.bounds[name] < 2 * case.bounds[name]).all(), name
        assert (case.bounds[name] < 2 * made.bounds[name]).all(), name


@pytest.mark.parametrize("case", STORED)
def test_it_is_drawn_the_same_elsewhere(case: Case) -> None:
    """No bound is near the limit above which a case is redrawn."""
    near, ill = scales(case.subject, case.inputs, case.expected), FORMATS[case.dtype].ill
    for name, bound in case.bounds.items():
        least = np.finfo(case.dtype).tiny / ill**2
        assert (bound <= ill / 2 * np.maximum(near[name], least)).all(), name


def test_the_manifest_is_as_its_schema_says() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.Draft202012Validator(SCHEMA).validate(MANIFEST)


@pytest.mark.parametrize(
    "path", [("version",), ("seed",), ("cases",), ("cases", 0, "results", "y", "bound")]
)
def test_the_schema_refuses_less(path: tuple[Any, ...]) -> None:
    less = inner = json.loads(json.dumps(MANIFEST))
    *places, name = path
    for place in places:
        inner = inner[place]
    del inner[name]
    with pytest.raises(jsonschema.ValidationError, match=name):
        jsonschema.Draft202012Validator(SCHEMA).validate(less)


@pytest.mark.parametrize("case", STORED)
def test_formulas_give_the_place_of_an_entry(case: Case) -> None:
    """Over all parts of the layout, the formula gives the index of each entry."""
    said = next(each for each in MANIFEST["cases"] if each["id"] == case.id)
    for name, tensor in {**said["inputs"], **said["results"]}.items():
        shape = case.inputs[name].shape if name in case.inputs else case.expected[name].shape
        assert tuple(tensor["shape"]) == shape
        if tensor["index"]:
            parts = Axes(name, shape, tensor["layout"]).parts
            places = np.indices([len(values) for _, values in parts]).reshape(len(parts), -1)
            names = [part.replace("from", "source") for part, _ in parts]  # a keyword of Python
            index = tensor["index"].replace("from", "source")
            found = eval(index, dict(zip(names, places, strict=True)))
            assert np.array_equal(found, np.arange(np.prod(shape, dtype=int))), name
