"""TensorFlow: fused operators, with a backward of their own; x and h in one matrix, (T, B, D)."""

from typing import Any

import numpy as np

from numpy_xlstm.conformance import Case
from numpy_xlstm.conformance.subjects import cotangent_of, gradient_of
from numpy_xlstm.numerics import Arrays
from tests.outside.shared import FLOAT32, outside, params

REQUIRES = "tensorflow>=2.20,<2.23"


def port(name: str, case: Case) -> Arrays:
    import tensorflow as tf

    given = {n: tf.Variable(array) for n, array in case.given.items()}
    order = (0, 2, 1, 3) if name == "BlockLSTM" else (0, 1, 2, 3)
    with tf.GradientTape() as tape:
        W, R, b = (tf.gather(tf.split(array, 4), order) for array in params(given))
        x, zero = tf.transpose(given["x"], (1, 0, 2)), tf.zeros(case.options["hidden_size"])
        more: dict[str, Any] = {"wci": zero, "wcf": zero, "wco": zero, "use_peephole": False}
        more |= {"forget_bias": 0} if name == "BlockLSTM" else {}
        found = getattr(tf.raw_ops, name)(
            w=tf.transpose(tf.concat([tf.concat(list(W), 0), tf.concat(list(R), 0)], 1)),
            b=tf.concat(list(b), 0),
            seq_len_max=len(x),
            x=x,
            cs_prev=given["state.c"],
            h_prev=given["state.h"],
            cell_clip=-1,
            **more,
        )
        results = {"y": tf.transpose(found.h, (1, 0, 2))}
        results |= {"final.h": found.h[-1], "final.c": found.cs[-1]}
    leaves = [n for n in given if not n.startswith("d")]
    cotangents = [tf.constant(case.inputs[cotangent_of(n)]) for n in results]
    sources = [given[n] for n in leaves]
    gradients = tape.gradient(list(results.values()), sources, cotangents)
    named = zip(map(gradient_of, leaves), gradients, strict=True)
    return {n: np.array(a) for n, a in (results | dict(named)).items()}


FUNCTIONS = "BlockLSTM lstm, BlockLSTMV2 lstm"
DIFFERS = {"BlockLSTMV2 lstm": {"gradient (9)": "*"}}
IMPLEMENTATIONS = outside("tensorflow", port, FUNCTIONS, "lengths, no step", DIFFERS, **FLOAT32)
