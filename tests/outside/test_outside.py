"""Implementations by others fail where they are known to fail, and nowhere else."""

import os
import re
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

from tests.conformance.implementations.outcomes import outcome
from tests.conformance.implementations.page import PAGE
from tests.outside.shared import NODE, Outside, why_not

pytestmark = pytest.mark.filterwarnings("ignore")
MODULES = {
    path.stem: import_module(f"tests.outside.{path.stem}")
    for path in sorted(Path(__file__).parent.glob("*.py"))
    if '\nREQUIRES = "' in path.read_text("utf-8")
}
ALL: list[Outside] = [each for module in MODULES.values() for each in module.IMPLEMENTATIONS]
REQUIRES = {m.IMPLEMENTATIONS[0].package: m.REQUIRES.split()[0] for m in MODULES.values()}
JAVASCRIPT = re.findall(r"^```js\n(.+?)// prints (.+?)\n```", PAGE.read_text("utf-8"), re.M | re.S)


@pytest.mark.parametrize("each", ALL, ids=lambda each: f"{each.package}-{each.name}-{each.subject}")
def test_it_fails_where_it_is_known_to_and_nowhere_else(each: Outside) -> None:
    if reason := why_not(REQUIRES[each.package]):
        pytest.skip(reason)
    found = outcome(each, seeds=range(1))
    unknown = [v for v in found.failed if not each.fails(v.case, raising=v.results is None)]
    assert not unknown, str(found)
    mended = [v.case.id for v in found.passed if each.fails(v.case)]
    assert not mended, f"{each.package} was mended: remove {dict(each.differs)}, also on the page"


@pytest.mark.parametrize(("code", "printed"), JAVASCRIPT, ids=("tfjs", "brain.js"))
def test_the_page_shows_errors_in_javascript(code: str, printed: str) -> None:
    package = re.findall(r"(@tensorflow/tfjs-core|brain\.js)", code)[0]
    if not (NODE / package).exists():
        pytest.skip(f"{package} is not installed: python -m tests.outside tfjs brain")
    environment = os.environ | {"NODE_PATH": str(NODE)}
    run = subprocess.run(["node", "-e", code], env=environment, capture_output=True, text=True)
    assert run.stdout.split() == printed.split(), run.stderr
