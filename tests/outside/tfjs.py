"""TensorFlow.js, run by Node: see tfjs.mjs."""

from functools import partial

from tests.outside.node import port
from tests.outside.shared import FLOAT32, outside

REQUIRES = "@tensorflow/tfjs-layers@4 @tensorflow/tfjs-core@4 @tensorflow/tfjs-backend-cpu@4"
PORT = partial(port, "tfjs.mjs")
FUNCTIONS, LACKS = "lstm lstm, gru original-gru, simpleRNN elman", "lengths, no step"
DIFFERS = {"": {"one step raises (23)": "one-step tanh.one-step relu.one-step"}}
IMPLEMENTATIONS = outside("@tensorflow/tfjs-layers", PORT, FUNCTIONS, LACKS, DIFFERS, **FLOAT32)
