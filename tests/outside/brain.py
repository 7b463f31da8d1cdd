"""brain.js, run by Node: see brain.mjs."""

from functools import partial

from tests.outside.node import port
from tests.outside.shared import outside

REQUIRES = "brain.js@1.6.1"
PORT, LACKS = partial(port, "brain.mjs"), "lengths, no step, initial state"
DIFFERS = {"": {"c is h (24)": "ordinary no-state closed-gates large one-row"}}
FUNCTIONS = "recurrent.lstm lstm"
IMPLEMENTATIONS = outside("brain.js", PORT, FUNCTIONS, LACKS, DIFFERS, dtype="float32")
