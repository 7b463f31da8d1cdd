"""Known mistakes in W x + R h₋ + b and its gates, and in the LSTM and its kin."""

from itertools import permutations

from numpy_xlstm.cells.gates import pre_activations, pre_activations_backward
from numpy_xlstm.cells.lstm import LSTMCell
from numpy_xlstm.cells.lstmp import LSTMPCell
from numpy_xlstm.cells.peephole import PeepholeLSTMCell
from numpy_xlstm.conformance.bugs.bug import Bug

GATED = "lstm.*", "slstm.*"
BIASED = "lstm.s*", "slstm.s*"
"""All but those of given W x + b."""
MAPS = pre_activations, pre_activations_backward
"""W x + R h₋ + b, and its transpose."""

CONVENTIONS = {
    "fizo": "as where the weights that xlstm 2.0.6 names fgate and igate are taken by these names",
    "iofz": "which is that of ONNX",
    "izfo": "which is that of TensorFlow 1",
}
"""What is known of other orders of the gates."""


def gate_order(order: str) -> Bug:
    """Rows of W, R and b, read gate by gate in another order than i, f, z, o."""
    read, written = ", ".join(order), ", ".join("ifzo")
    known = CONVENTIONS.get(order)
    return Bug(
        f"gates-in-order-{order}",
        GATED,
        MAPS,
        f"""
        - return np.split(x @ W.T + Rh + b, 4, axis=1)
        + {read} = np.split(x @ W.T + Rh + b, 4, axis=1)
        + return [{written}]
        - dg = np.concatenate(dgates, axis=1)
        + {written} = dgates
        + dg = np.concatenate(({read}), axis=1)
        """,
        f"a cell that reads the rows of W, R and b in the order {read}"
        + (f", {known}" if known else ""),
    )


BUGS = [
    *(gate_order("".join(order)) for order in permutations("ifzo") if order != tuple("ifzo")),
    Bug(
        "recurrent-matrix-transposed",
        GATED,
        MAPS,
        """
        - Rh = np.einsum("ngij,bnj->bgni", R_heads, h_heads).reshape(B, 4 * H)
        + Rh = np.einsum("ngji,bnj->bgni", R_heads, h_heads).reshape(B, 4 * H)
        - dh_prev = np.einsum("ngij,bgni->bnj", R_heads, dRh).reshape(B, H)
        + dh_prev = np.einsum("ngji,bgni->bnj", R_heads, dRh).reshape(B, H)
        - dR = np.einsum("bgni,bnj->ngij", dRh, h_heads).reshape(R.shape)
        + dR = np.einsum("bgni,bnj->ngji", dRh, h_heads).reshape(R.shape)
        """,
        "a cell that multiplies h by the transpose of R",
    ),
    Bug(
        "recurrent-gradient-transposed",
        GATED,
        (pre_activations_backward,),
        """
        - dR = np.einsum("bgni,bnj->ngij", dRh, h_heads).reshape(R.shape)
        + dR = np.einsum("bgni,bnj->ngji", dRh, h_heads).reshape(R.shape)
        """,
        "a backward that returns the transpose of R's gradient",
    ),
    Bug(
        "recurrent-backward-not-transposed",
        GATED,
        (pre_activations_backward,),
        """
        - dh_prev = np.einsum("ngij,bgni->bnj", R_heads, dRh).reshape(B, H)
        + dh_prev = np.einsum("ngji,bgni->bnj", R_heads, dRh).reshape(B, H)
        """,
        "a backward that takes h back through R, not through its transpose",
    ),
    Bug(
        "recurrent-gradient-from-h-after",
        ("lstm.*",),
        (LSTMCell,),
        """
        - dx, dh_prev, grads = pre_activations_backward(dpre, x, h_prev, **self.params)
        + dx, dh_prev, grads = pre_activations_backward(dpre, x, o * np.tanh(c), **self.params)
        """,
        "a backward that forms R's gradient with h of the step, not with h of the one before",
    ),
    Bug(
        "recurrent-path-cut",
        GATED,
        (pre_activations_backward,),
        """
        - dh_prev = np.einsum("ngij,bgni->bnj", R_heads, dRh).reshape(B, H)
        + dh_prev = np.zeros_like(h_prev)
        """,
        "a backward that takes h before the step for a constant",
    ),
    Bug(
        "bias-twice",
        BIASED,
        MAPS,
        """
        - return np.split(x @ W.T + Rh + b, 4, axis=1)
        + return np.split(x @ W.T + Rh + b + b, 4, axis=1)
        """,
        "a cell that adds the bias twice, as where b is both of PyTorch's bias_ih and bias_hh",
    ),
    Bug(
        "bias-missing",
        BIASED,
        MAPS,
        """
        - return np.split(x @ W.T + Rh + b, 4, axis=1)
        + return np.split(x @ W.T + Rh, 4, axis=1)
        """,
        "a cell that does not add the bias",
    ),
    Bug(
        "bias-gradient-averaged",
        BIASED,
        (pre_activations_backward,),
        """
        - db = dg.sum(axis=0)
        + db = dg.mean(axis=0)
        """,
        "a backward that averages the bias's gradient over the rows of the batch",
    ),
    Bug(
        "weight-gradients-averaged",
        GATED,
        (pre_activations_backward,),
        """
        - return dx, dh_prev, {"W": dW, "R": dR, "b": db}
        + return dx, dh_prev, {"W": dW / B, "R": dR / B, "b": db / B}
        """,
        "a backward that averages the gradients of parameters over the rows of the batch",
    ),
    Bug(
        "gradients-of-last-row-alone",
        GATED,
        (pre_activations_backward,),
        """
        - dW = dg.T @ x
        + dW = dg[-1:].T @ x[-1:]
        - dR = np.einsum("bgni,bnj->ngij", dRh, h_heads).reshape(R.shape)
        + dR = np.einsum("bgni,bnj->ngij", dRh[-1:], h_heads[-1:]).reshape(R.shape)
        - db = dg.sum(axis=0)
        + db = dg[-1]
        """,
        "a backward that begins the gradients of parameters anew in each row of the batch, and "
        "keeps those of the last",
    ),
    Bug(
        "output-bias-in-all-gates",
        ("lstm.s*",),
        (pre_activations,),
        """
        - return np.split(x @ W.T + Rh + b, 4, axis=1)
        + b_i, _, _, b_o = np.split(b, 4)
        + return np.split(x @ W.T + Rh + np.hstack([b_i, b_o, b_o, b_o]), 4, axis=1)
        """,
        "an LSTM that adds the output gate's bias to the forget gate and to z too",
        seen_in=("numpy-ml, issue 42",),
    ),
    Bug(
        "forget-bias-of-1-added",
        ("lstm.*",),
        (LSTMCell,),
        """
        - i, f, o = sigmoid(i_pre), sigmoid(f_pre), sigmoid(o_pre)
        + i, f, o = sigmoid(i_pre), sigmoid(f_pre + 1), sigmoid(o_pre)
        - df_pre = dc * c_prev * sigmoid_slope(f_pre)
        + df_pre = dc * c_prev * sigmoid_slope(f_pre + 1)
        """,
        "an LSTM that adds 1 to the forget gate's pre-activation, as TensorFlow 1 did",
    ),
    Bug(
        "tanh-of-output-missing",
        ("lstm.*",),
        (LSTMCell,),
        """
        - h = o * np.tanh(c)
        + h = o * c
        - do_pre = dh * np.tanh(c) * sigmoid_slope(o_pre)
        + do_pre = dh * c * sigmoid_slope(o_pre)
        - dc = dc_next + dh * o * tanh_slope(c)
        + dc = dc_next + dh * o
        """,
        "an LSTM without the tanh of the output, h = o ∘ c",
    ),
    Bug(
        "candidate-sigmoid",
        ("lstm.*",),
        (LSTMCell,),
        """
        - z = np.tanh(z_pre)
        + z = sigmoid(z_pre)
        - dz_pre = dc * i * tanh_slope(z_pre)
        + dz_pre = dc * i * sigmoid_slope(z_pre)
        """,
        "an LSTM with σ in place of the tanh of z",
    ),
    Bug(
        "gates-hard-sigmoid",
        ("lstm.*",),
        (LSTMCell,),
        """
        - i, f, o = sigmoid(i_pre), sigmoid(f_pre), sigmoid(o_pre)
        + i, f, o = (np.clip(0.2 * g + 0.5, 0, 1) for g in (i_pre, f_pre, o_pre))
        - do_pre = dh * np.tanh(c) * sigmoid_slope(o_pre)
        + do_pre = dh * np.tanh(c) * 0.2 * (np.abs(o_pre) < 2.5)
        - di_pre = dc * z * sigmoid_slope(i_pre)
        + di_pre = dc * z * 0.2 * (np.abs(i_pre) < 2.5)
        - df_pre = dc * c_prev * sigmoid_slope(f_pre)
        + df_pre = dc * c_prev * 0.2 * (np.abs(f_pre) < 2.5)
        """,
        "an LSTM with hard sigmoids, min(max(0.2 x + 0.5, 0), 1), as Keras had before 2.3",
    ),
    Bug(
        "input-gate-coupled",
        ("lstm.*",),
        (LSTMCell,),
        """
        - i, f, o = sigmoid(i_pre), sigmoid(f_pre), sigmoid(o_pre)
        + f, o = sigmoid(f_pre), sigmoid(o_pre)
        + i = 1 - f
        - di_pre = dc * z * sigmoid_slope(i_pre)
        + di_pre = np.zeros_like(dc)
        - df_pre = dc * c_prev * sigmoid_slope(f_pre)
        + df_pre = dc * (c_prev - z) * sigmoid_slope(f_pre)
        """,
        "an LSTM of coupled gates, i = 1 − f, as with ONNX's input_forget",
    ),
    Bug(
        "output-slope-of-c-for-tanh-c",
        ("lstm.*",),
        (LSTMCell,),
        """
        - dc = dc_next + dh * o * tanh_slope(c)
        + dc = dc_next + dh * o * (1 - c * c)
        """,
        "a backward that takes 1 − c² for the slope of tanh(c), which is 1 − tanh²(c)",
    ),
    Bug(
        "output-slope-missing",
        ("lstm.*",),
        (LSTMCell,),
        """
        - dc = dc_next + dh * o * tanh_slope(c)
        + dc = dc_next + dh * o
        """,
        "a backward without the slope of tanh(c)",
    ),
    Bug(
        "candidate-slope-of-pre-activation",
        ("lstm.*",),
        (LSTMCell,),
        """
        - dz_pre = dc * i * tanh_slope(z_pre)
        + dz_pre = dc * i * (1 - z_pre * z_pre)
        """,
        "a backward that takes 1 − z̃² for the slope of tanh(z̃)",
    ),
    Bug(
        "forget-gradient-from-c-after",
        ("lstm.*",),
        (LSTMCell,),
        """
        - df_pre = dc * c_prev * sigmoid_slope(f_pre)
        + df_pre = dc * c * sigmoid_slope(f_pre)
        """,
        "a backward that forms the forget gate's gradient with c after the step, not before",
    ),
    Bug(
        "output-gradient-without-tanh",
        ("lstm.*",),
        (LSTMCell,),
        """
        - do_pre = dh * np.tanh(c) * sigmoid_slope(o_pre)
        + do_pre = dh * c * sigmoid_slope(o_pre)
        """,
        "a backward that forms the output gate's gradient with c, not with tanh(c)",
    ),
    Bug(
        "memory-path-without-forget-gate",
        ("lstm.*",),
        (LSTMCell,),
        """
        - dc_prev = f * dc
        + dc_prev = dc
        """,
        "a backward that takes c back without the forget gate, as in the LSTM of 1997",
    ),
    Bug(
        "memory-path-cut",
        ("lstm.*",),
        (LSTMCell,),
        """
        - dc_prev = f * dc
        + dc_prev = np.zeros_like(dc)
        """,
        "a backward that hands h's gradient to the step before, and not c's",
    ),
    Bug(
        "output-gate-missing-in-backward",
        ("lstm.*",),
        (LSTMCell,),
        """
        - dc = dc_next + dh * o * tanh_slope(c)
        + dc = dc_next + dh * tanh_slope(c)
        """,
        "a backward that takes h's gradient to c without the output gate",
    ),
    Bug(
        "state-in-place",
        ("lstm.*",),
        (LSTMCell,),
        """
        - i_pre, f_pre, z_pre, o_pre = pre = pre_activations(x, h_prev, **self.params)
        + i_pre, f_pre, z_pre, o_pre = pre = pre_activations(x, h_prev, **self.params)
        + seen = h_prev.copy()
        + for unit in range(self.hidden_size):
        +     for old, new in zip(pre, pre_activations(x, seen, **self.params), strict=True):
        +         old[:, unit] = new[:, unit]
        +     c = sigmoid(f_pre) * c_prev + sigmoid(i_pre) * np.tanh(z_pre)
        +     seen[:, unit] = (sigmoid(o_pre) * np.tanh(c))[:, unit]
        """,
        "a cell that writes h over h before the step, unit by unit, so that the gates of later "
        "units see the new one",
    ),
    Bug(
        "output-gate-reads-memory-before",
        ("peephole.*",),
        (PeepholeLSTMCell,),
        """
        - o_pre = a_o + p_o * c
        + o_pre = a_o + p_o * c_prev
        - dc = dc_next + dh * o * tanh_slope(c) + p_o * do_pre
        + dc = dc_next + dh * o * tanh_slope(c)
        - dc_prev = f * dc + p_i * di_pre + p_f * df_pre
        + dc_prev = f * dc + p_i * di_pre + p_f * df_pre + p_o * do_pre
        - dP = np.hstack([di_pre * c_prev, df_pre * c_prev, do_pre * c]).sum(axis=0)
        + dP = np.hstack([di_pre * c_prev, df_pre * c_prev, do_pre * c_prev]).sum(axis=0)
        """,
        "a peephole LSTM of which the output gate sees c before the step, not after it",
    ),
    Bug(
        "peepholes-in-order-iof",
        ("peephole.*",),
        (PeepholeLSTMCell,),
        """
        - p, (p_i, p_f, p_o) = self.params, np.split(self.params["P"], 3)
        + p, (p_i, p_o, p_f) = self.params, np.split(self.params["P"], 3)
        - p_i, p_f, p_o = np.split(self.params["P"], 3)
        + p_i, p_o, p_f = np.split(self.params["P"], 3)
        - dP = np.hstack([di_pre * c_prev, df_pre * c_prev, do_pre * c]).sum(axis=0)
        + dP = np.hstack([di_pre * c_prev, do_pre * c, df_pre * c_prev]).sum(axis=0)
        """,
        "a peephole LSTM that reads P in the order i, o, f, which is that of ONNX",
    ),
    Bug(
        "peepholes-missing",
        ("peephole.*",),
        (PeepholeLSTMCell,),
        """
        - p, (p_i, p_f, p_o) = self.params, np.split(self.params["P"], 3)
        + p, (p_i, p_f, p_o) = self.params, np.zeros((3, self.hidden_size), self.dtype)
        - p_i, p_f, p_o = np.split(self.params["P"], 3)
        + p_i, p_f, p_o = np.zeros((3, self.hidden_size), self.dtype)
        """,
        "a peephole LSTM without its peepholes",
    ),
    Bug(
        "peephole-paths-cut",
        ("peephole.*",),
        (PeepholeLSTMCell,),
        """
        - dc = dc_next + dh * o * tanh_slope(c) + p_o * do_pre
        + dc = dc_next + dh * o * tanh_slope(c)
        - dc_prev = f * dc + p_i * di_pre + p_f * df_pre
        + dc_prev = f * dc
        """,
        "a backward that takes no gradient to c through the peepholes",
    ),
    Bug(
        "peephole-gradient-from-memory-before",
        ("peephole.*",),
        (PeepholeLSTMCell,),
        """
        - dP = np.hstack([di_pre * c_prev, df_pre * c_prev, do_pre * c]).sum(axis=0)
        + dP = np.hstack([di_pre * c_prev, df_pre * c_prev, do_pre * c_prev]).sum(axis=0)
        """,
        "a backward that forms the gradient of the output gate's peephole with c before the step, "
        "as those of the others",
    ),
    Bug(
        "gates-in-order-iofz",
        ("peephole.*",),
        (PeepholeLSTMCell,),
        """
        - a_i, a_f, z_pre, a_o = np.split(a, 4, axis=1)
        + a_i, a_o, a_f, z_pre = np.split(a, 4, axis=1)
        - da = np.hstack([di_pre, df_pre, dz_pre, do_pre])
        + da = np.hstack([di_pre, do_pre, df_pre, dz_pre])
        """,
        "a cell that reads the rows of W, R and b in the order i, o, f, z, which is that of ONNX",
    ),
    Bug(
        "projection-not-in-recurrence",
        ("lstmp.*",),
        (LSTMPCell,),
        """
        - dm = dh @ self.params["W_hr"]
        + dm = (dh - dh_next) @ self.params["W_hr"]
        """,
        "a backward that takes the gradient of h before the next step past the projection",
    ),
    Bug(
        "projection-gradient-without-output-gate",
        ("lstmp.*",),
        (LSTMPCell,),
        """
        - dW_hr = dh.T @ m
        + dW_hr = dh.T @ np.tanh(c)
        """,
        "a backward that forms the projection's gradient with tanh(c), not with o ∘ tanh(c)",
    ),
    Bug(
        "gates-in-order-iofz",
        ("lstmp.*",),
        (LSTMPCell,),
        """
        - i_pre, f_pre, z_pre, o_pre = pre = np.split(a, 4, axis=1)
        + i_pre, o_pre, f_pre, z_pre = np.split(a, 4, axis=1)
        + pre = i_pre, f_pre, z_pre, o_pre
        - da = np.hstack([di_pre, df_pre, dz_pre, do_pre])
        + da = np.hstack([di_pre, do_pre, df_pre, dz_pre])
        """,
        "a cell that reads the rows of W, R and b in the order i, o, f, z, which is that of ONNX",
    ),
]
