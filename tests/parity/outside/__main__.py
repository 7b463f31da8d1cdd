"""Print the table of ``docs/outside-suites.md``: ``python -m tests.parity.outside``."""

from tests.parity.outside.suite import run
from tests.parity.outside.suites import SUITES, row

for name, suite in SUITES.items():
    print(row(name, run(suite)), flush=True)
