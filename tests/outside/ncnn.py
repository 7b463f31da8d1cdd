"""ncnn: layers for a single row, with the gates i, f, o, z or r, z, n, in its text format."""

import numpy as np

from tests.outside.shared import Array, Arrays, Case, one_bias, outside, weights


def port(name: str, case: Case) -> Arrays:
    import ncnn

    W, R, *b = weights(case, {"LSTM": "ifoz", "GRU": "rzn", "RNN": "h"}[name])
    parts = "hc" if name == "LSTM" else "h"
    inputs, outputs = ["x", *parts], ["y", *(f"last_{part}" for part in parts)]
    count, sizes = len(inputs), f"0={case.options['hidden_size']} 1={W.size} 2=0"
    lines = [f"Input {blob} 0 1 {blob}" for blob in inputs]
    lines += [f"{name} layer {count} {count} {' '.join(inputs)} {' '.join(outputs)} {sizes}"]
    net = ncnn.Net()
    net.load_param_mem("\n".join(["7767517", f"{len(lines)} {2 * count}", *lines, ""]))
    arrays = W, np.concatenate(one_bias(*b)), R
    net.load_model_mem(b"".join(bytes(4) + array.tobytes() for array in arrays))

    def row(x: Array, *state: Array) -> list[Array]:
        run = net.create_extractor()
        for blob, array in zip(inputs, (x, *state), strict=True):
            run.input(blob, ncnn.Mat(np.atleast_2d(array)).clone())  # which keeps no array
        return [np.array(run.extract(blob)[1]) for blob in outputs]

    rows = zip(case.given["x"], *(case.given[f"state.{part}"] for part in parts), strict=True)
    y, *last = map(np.stack, zip(*(row(*given) for given in rows), strict=True))
    return {"y": y} | {f"final.{part}": a[:, 0] for part, a in zip(parts, last, strict=True)}


FUNCTIONS, LACKS = "LSTM lstm, GRU gru, RNN elman", "lengths, no step, relu"
FORWARD = {"gradients": False, "dtype": "float32"}
IMPLEMENTATIONS = outside("ncnn>=1.0.20250503,<2", port, FUNCTIONS, LACKS, **FORWARD)
