"""Known mistakes in the sLSTM: normaliser, stabiliser and heads."""

from numpy_xlstm.cells.slstm import sLSTMCell
from numpy_xlstm.conformance.bugs.bug import Bug
from numpy_xlstm.conformance.bugs.gated import MAPS

SLSTM = ("slstm.*",)
CELL = (sLSTMCell,)

BUGS = [
    Bug(
        "normaliser-gradient-dropped",
        SLSTM,
        CELL,
        """
        - dn = dn_next - dh * o / n * (c / n)
        + dn = dn_next
        """,
        "a backward that takes the normaliser for a constant where h is divided by it",
    ),
    Bug(
        "normaliser-clamped-in-forward",
        SLSTM,
        CELL,
        """
        - n = f * n_prev + i
        + n = np.maximum(f * n_prev + i, 1)
        """,
        "an sLSTM that holds n at 1 or above, and does not know of it in the backward",
        seen_in=("flashrnn 1.0.8",),
    ),
    Bug(
        "normaliser-clamped",
        SLSTM,
        CELL,
        """
        - n = f * n_prev + i
        + n = np.maximum(f * n_prev + i, 1)
        - dn = dn_next - dh * o / n * (c / n)
        + dn = np.where(n > 1, dn_next - dh * o / n * (c / n), 0)
        """,
        "an sLSTM that holds n at 1 or above, forward and backward",
    ),
    Bug(
        "normaliser-without-input-gate",
        SLSTM,
        CELL,
        """
        - n = f * n_prev + i
        + n = f * n_prev + 1
        - di = dc * z + dn
        + di = dc * z
        """,
        "an sLSTM that adds 1 to n at each step, not the input gate",
    ),
    Bug(
        "normaliser-not-forgotten",
        SLSTM,
        CELL,
        """
        - n = f * n_prev + i
        + n = n_prev + i
        - df = dc * c_prev + dn * n_prev
        + df = dc * c_prev
        - dn_prev = f * dn
        + dn_prev = dn
        """,
        "an sLSTM whose forget gate acts on c, and not on n",
    ),
    Bug(
        "output-with-tanh",
        SLSTM,
        CELL,
        """
        - h = o * (c / n)
        + h = o * np.tanh(c / n)
        - do_pre = dh * (c / n) * sigmoid_slope(o_pre)
        + do_pre = dh * np.tanh(c / n) * sigmoid_slope(o_pre)
        + dh = dh * tanh_slope(c / n)
        """,
        "an sLSTM with h = o ∘ tanh(c / n), the habit of the LSTM",
    ),
    Bug(
        "candidate-without-tanh",
        SLSTM,
        CELL,
        """
        - z = np.tanh(z_pre)
        + z = z_pre
        - dz_pre = dc * i * tanh_slope(z_pre)
        + dz_pre = dc * i
        """,
        "an sLSTM without the tanh of z",
    ),
    Bug(
        "input-gate-sigmoid",
        SLSTM,
        CELL,
        """
        - m = maximum(A, i_pre)
        + log_i = log_gate(i_pre, "sigmoid")
        + m = maximum(A, log_i)
        - i = np.exp(i_pre - m)
        + i = np.exp(log_i - m)
        - past = A.real >= i_pre.real
        + past = A >= log_gate(i_pre, "sigmoid")
        - di_pre = np.where(past, i * di, dm_next - f * df)
        + di_pre = np.where(past, i * di, dm_next - f * df) * log_gate_slope(i_pre, "sigmoid")
        """,
        "an sLSTM of which the input gate is a sigmoid, as in the LSTM",
    ),
    Bug(
        "forget-gate-always-sigmoid",
        SLSTM,
        CELL,
        """
        - A = log_gate(f_pre, self.forget_gate) + m_prev
        + A = log_gate(f_pre, "sigmoid") + m_prev
        - df_pre = dA * log_gate_slope(f_pre, self.forget_gate)
        + df_pre = dA * log_gate_slope(f_pre, "sigmoid")
        """,
        "a cell whose forget gate is a sigmoid, whatever the option says",
        flags=("forget_gate=exp",),
    ),
    Bug(
        "forget-gate-always-exponential",
        SLSTM,
        CELL,
        """
        - A = log_gate(f_pre, self.forget_gate) + m_prev
        + A = log_gate(f_pre, "exp") + m_prev
        - df_pre = dA * log_gate_slope(f_pre, self.forget_gate)
        + df_pre = dA * log_gate_slope(f_pre, "exp")
        """,
        "a cell whose forget gate is exponential, whatever the option says",
        flags=("forget_gate=sigmoid",),
    ),
    Bug(
        "log-sigmoid-by-exp",
        SLSTM,
        CELL,
        """
        - A = log_gate(f_pre, self.forget_gate) + m_prev
        + log_f = np.log(1 / (1 + np.exp(-f_pre))) if self.forget_gate == "sigmoid" else f_pre
        + A = log_f + m_prev
        """,
        "a cell that takes the logarithm of a sigmoid that has become 0",
        flags=("far-memory", "forget_gate=sigmoid"),
    ),
    Bug(
        "pre-activations-clamped",
        SLSTM,
        CELL,
        """
        - A = log_gate(f_pre, self.forget_gate) + m_prev
        + i_pre, f_pre = np.clip(i_pre, -15, 8), np.clip(f_pre, -15, 8)
        + A = log_gate(f_pre, self.forget_gate) + m_prev
        """,
        "a cell that clamps the pre-activations of its gates to [−15, 8], and does not know of it "
        "in the backward",
        flags=("large-pre-activations",),
        seen_in=("xlstm-rs",),
    ),
    Bug(
        "log-of-forget-gate-missing",
        SLSTM,
        CELL,
        """
        - A = log_gate(f_pre, self.forget_gate) + m_prev
        + A = sigmoid(f_pre) + m_prev
        - df_pre = dA * log_gate_slope(f_pre, self.forget_gate)
        + df_pre = dA * sigmoid_slope(f_pre)
        """,
        "an sLSTM that adds σ(f̃) to the stabiliser, not its logarithm",
    ),
    Bug(
        "stabiliser-missing",
        SLSTM,
        CELL,
        """
        - m = maximum(A, i_pre)
        + A = A - np.where(np.isinf(m_prev), 0, m_prev)
        + m = np.zeros_like(A)
        - di_pre = np.where(past, i * di, dm_next - f * df)
        + di_pre = i * di
        - dA = np.where(past, dm_next - i * di, f * df)
        + dA = f * df
        """,
        "an sLSTM without a stabiliser, whose m stays 0",
    ),
    Bug(
        "stabiliser-of-input-gate-alone",
        SLSTM,
        CELL,
        """
        - m = maximum(A, i_pre)
        + m = i_pre
        - di_pre = np.where(past, i * di, dm_next - f * df)
        + di_pre = dm_next - f * df
        - dA = np.where(past, dm_next - i * di, f * df)
        + dA = f * df
        """,
        "a cell whose m is ĩ of the step, and no maximum with what was before",
    ),
    Bug(
        "stabiliser-without-forget-gate",
        SLSTM,
        CELL,
        """
        - m = maximum(A, i_pre)
        + m = maximum(m_prev, i_pre)
        - di_pre = np.where(past, i * di, dm_next - f * df)
        + dm = dm_next - i * di - f * df
        + di_pre = i * di + np.where(past, 0, dm)
        - dA = np.where(past, dm_next - i * di, f * df)
        + dA = f * df + np.where(past, dm, 0)
        """,
        "a cell whose m is max(m₋, log i), without log f",
    ),
    Bug(
        "forget-gate-without-m-before",
        SLSTM,
        CELL,
        """
        - f = np.exp(A - m)
        + f = np.exp(log_gate(f_pre, self.forget_gate) - m)
        - di_pre = np.where(past, i * di, dm_next - f * df)
        + dm = dm_next - i * di - f * df
        + di_pre = i * di + np.where(past, 0, dm)
        - dA = np.where(past, dm_next - i * di, f * df)
        + dA = f * df + np.where(past, dm, 0)
        - dm_prev = dA
        + dm_prev = dA - f * df
        """,
        "a cell whose f′ is exp(log f − m), without m before the step",
    ),
    Bug(
        "backward-with-unstabilised-gates",
        SLSTM,
        CELL,
        """
        - dh = dh + dh_next
        + dh = dh + dh_next
        + i, f = np.exp(i_pre), np.exp(log_gate(f_pre, self.forget_gate))
        - di_pre = np.where(past, i * di, dm_next - f * df)
        + dm = dm_next - i * di - f * df
        + di_pre = i * di + np.where(past, 0, dm)
        - dA = np.where(past, dm_next - i * di, f * df)
        + dA = f * df + np.where(past, dm, 0)
        """,
        "a backward with exp(ĩ) and f for i′ and f′, beside c and n that are divided by e^m",
    ),
    Bug(
        "stabiliser-constant",
        SLSTM,
        CELL,
        """
        - di_pre = np.where(past, i * di, dm_next - f * df)
        + di_pre = i * di
        - dA = np.where(past, dm_next - i * di, f * df)
        + dA = f * df
        """,
        "a backward that takes m for a constant, which is exact only where no cotangent comes on "
        "c, n and m",
    ),
    Bug(
        "stabiliser-gradient-not-passed-on",
        SLSTM,
        CELL,
        """
        - dm_prev = dA
        + dm_prev = np.zeros_like(dA)
        """,
        "a backward that gives m before the step no gradient",
        seen_in=("flashrnn 1.0.8",),
    ),
    Bug(
        "tie-to-input-gate",
        SLSTM,
        CELL,
        """
        - past = A.real >= i_pre.real
        + past = A.real > i_pre.real
        """,
        "a backward that gives the stabiliser's gradient to the input gate where the maximum is a "
        "tie, not to log f + m₋",
        flags=("tie",),
    ),
    Bug(
        "winner-by-forget-gate",
        SLSTM,
        CELL,
        """
        - past = A.real >= i_pre.real
        + past = f >= 1
        """,
        "a backward that gives the stabiliser's gradient to log f + m₋ where f′ = 1, also where "
        "f′ is only rounded to 1",
        flags=("near-tie",),
    ),
    Bug(
        "tie-in-halves",
        SLSTM,
        CELL,
        """
        - di_pre = np.where(past, i * di, dm_next - f * df)
        + tie = A.real == i_pre.real
        + dm = dm_next - i * di - f * df
        + di_pre = i * di + np.where(tie, dm / 2, np.where(past, 0, dm))
        - dA = np.where(past, dm_next - i * di, f * df)
        + dA = f * df + np.where(tie, dm / 2, np.where(past, dm, 0))
        """,
        "a backward that halves the stabiliser's gradient where the maximum is a tie, as that of "
        "torch.maximum and jax.numpy.maximum does",
        flags=("tie",),
    ),
    Bug(
        "empty-state-with-m-0",
        SLSTM,
        CELL,
        """
        - A = log_gate(f_pre, self.forget_gate) + m_prev
        + A = log_gate(f_pre, self.forget_gate) + np.where(np.isinf(m_prev), 0, m_prev)
        - A = np.where((n_prev == 0) & underflows(i_pre - A), -np.inf, A)
        """,
        "a cell whose empty state has m = 0, not −∞",
        flags=("empty-state",),
    ),
    Bug(
        "no-state-with-m-0",
        SLSTM,
        CELL,
        """
        - return sLSTMState(h, c, n, np.full(shape, -np.inf, self.dtype))
        + return sLSTMState(h, c, n, np.zeros(shape, self.dtype))
        """,
        "a cell that begins with m = 0, not −∞, where it is given no state",
        flags=("empty-state",),
    ),
    Bug(
        "weight-of-no-memory",
        SLSTM,
        CELL,
        """
        - A = np.where((n_prev == 0) & underflows(i_pre - A), -np.inf, A)
        """,
        "a cell that keeps the m of a memory of nothing where exp(ĩ − m) is 0: h is 0/0",
        flags=("zero-memory",),
    ),
    Bug(
        "zero-state-taken-for-empty",
        SLSTM,
        CELL,
        """
        - A = np.where((n_prev == 0) & underflows(i_pre - A), -np.inf, A)
        + A = np.where(n_prev == 0, -np.inf, A)
        """,
        "a cell that takes a state that is given as zeros, with m = 0, for the empty one",
        flags=("zero-state",),
    ),
    Bug(
        "emptiness-of-the-whole-batch",
        SLSTM,
        CELL,
        """
        - A = log_gate(f_pre, self.forget_gate) + m_prev
        + fresh = np.all(n_prev == 0)
        + m_prev = np.full_like(m_prev, -np.inf) if fresh else np.where(m_prev > -np.inf, m_prev, 0)
        + A = log_gate(f_pre, self.forget_gate) + m_prev
        - A = np.where((n_prev == 0) & underflows(i_pre - A), -np.inf, A)
        """,
        "a cell that asks whether n is 0 in the whole batch, not in each row, before it takes the "
        "state for empty",
        flags=("mixed-rows",),
        seen_in=("xlstm 2.0.6", "flashrnn 1.0.8", "tirex"),
    ),
    Bug(
        "forget-gradient-from-memory-after",
        SLSTM,
        CELL,
        """
        - df = dc * c_prev + dn * n_prev
        + df = dc * c + dn * n
        """,
        "a backward that forms the forget gate's gradient with c and n after the step, not before",
    ),
    Bug(
        "gates-see-c-alone",
        SLSTM,
        CELL,
        """
        - di = dc * z + dn
        + di = dc * z
        - df = dc * c_prev + dn * n_prev
        + df = dc * c_prev
        """,
        "a backward of the gates through c alone, and not through n",
    ),
    Bug(
        "output-gate-missing-in-backward",
        SLSTM,
        CELL,
        """
        - dc = dc_next + dh * o / n
        + dc = dc_next + dh / n
        - dn = dn_next - dh * o / n * (c / n)
        + dn = dn_next - dh / n * (c / n)
        """,
        "a backward that takes h's gradient to c and n without the output gate",
    ),
    Bug(
        "memory-path-without-forget-gate",
        SLSTM,
        CELL,
        """
        - dc_prev = f * dc
        + dc_prev = dc
        - dn_prev = f * dn
        + dn_prev = dn
        """,
        "a backward that takes c and n back without the forget gate",
    ),
    Bug(
        "memory-path-cut",
        SLSTM,
        CELL,
        """
        - dc_prev = f * dc
        + dc_prev = np.zeros_like(dc)
        """,
        "a backward that hands h's gradient to the step before, and not c's",
    ),
    Bug(
        "normaliser-path-cut",
        SLSTM,
        CELL,
        """
        - dn_prev = f * dn
        + dn_prev = np.zeros_like(dn)
        """,
        "a backward that hands c's gradient to the step before, and not n's",
    ),
    Bug(
        "output-gradient-with-c-for-quotient",
        SLSTM,
        CELL,
        """
        - do_pre = dh * (c / n) * sigmoid_slope(o_pre)
        + do_pre = dh * c * sigmoid_slope(o_pre)
        """,
        "a backward that forms the output gate's gradient with c, not with c / n",
    ),
    Bug(
        "forget-slope-missing",
        SLSTM,
        CELL,
        """
        - df_pre = dA * log_gate_slope(f_pre, self.forget_gate)
        + df_pre = dA
        """,
        "a backward without the slope of log σ, as if the forget gate were exponential",
        flags=("forget_gate=sigmoid",),
    ),
    Bug(
        "forget-slope-of-other-sign",
        SLSTM,
        CELL,
        """
        - df_pre = dA * log_gate_slope(f_pre, self.forget_gate)
        + df_pre = dA * (sigmoid(f_pre) if self.forget_gate == "sigmoid" else 1)
        """,
        "a backward that takes σ(f̃) for the slope of log σ(f̃), which is σ(−f̃)",
        flags=("forget_gate=sigmoid",),
    ),
    Bug(
        "forget-slope-of-the-gate",
        SLSTM,
        CELL,
        """
        - df_pre = dA * log_gate_slope(f_pre, self.forget_gate)
        + df_pre = dA * (sigmoid_slope(f_pre) if self.forget_gate == "sigmoid" else 1)
        """,
        "a backward that takes the slope of σ(f̃), not that of its logarithm",
        flags=("forget_gate=sigmoid",),
    ),
    Bug(
        "recurrent-gradient-from-h-after",
        SLSTM,
        CELL,
        """
        - dx, dh_prev, grads = pre_activations_backward(dpre, x, h_prev, **self.params)
        + dx, dh_prev, grads = pre_activations_backward(dpre, x, o * c / n, **self.params)
        """,
        "a backward that forms R's gradient with h of the step, not with h of the one before",
    ),
    Bug(
        "recurrent-matrix-gate-by-gate",
        SLSTM,
        MAPS,
        """
        - R_heads, h_heads = R.reshape(H // DH, 4, DH, DH), h_prev.reshape(B, H // DH, DH)
        - Rh = np.einsum("ngij,bnj->bgni", R_heads, h_heads).reshape(B, 4 * H)
        + R_heads, h_heads = R.reshape(4, H // DH, DH, DH), h_prev.reshape(B, H // DH, DH)
        + Rh = np.einsum("gnij,bnj->bgni", R_heads, h_heads).reshape(B, 4 * H)
        - R_heads, h_heads = R.reshape(H // DH, 4, DH, DH), h_prev.reshape(B, H // DH, DH)
        - dg = np.concatenate(dgates, axis=1)
        + R_heads, h_heads = R.reshape(4, H // DH, DH, DH), h_prev.reshape(B, H // DH, DH)
        + dg = np.concatenate(dgates, axis=1)
        - dh_prev = np.einsum("ngij,bgni->bnj", R_heads, dRh).reshape(B, H)
        + dh_prev = np.einsum("gnij,bgni->bnj", R_heads, dRh).reshape(B, H)
        - dR = np.einsum("bgni,bnj->ngij", dRh, h_heads).reshape(R.shape)
        + dR = np.einsum("bgni,bnj->gnij", dRh, h_heads).reshape(R.shape)
        """,
        "a cell that reads R as (4, NH, DH, DH), gate by gate and then head by head, not as "
        "(NH, 4, DH, DH)",
    ),
    Bug(
        "bias-head-by-head",
        ("slstm.s*",),
        MAPS,
        """
        - return np.split(x @ W.T + Rh + b, 4, axis=1)
        + b = b.reshape(H // DH, 4, DH).swapaxes(0, 1).ravel()
        + return np.split(x @ W.T + Rh + b, 4, axis=1)
        - db = dg.sum(axis=0)
        + db = dg.sum(axis=0).reshape(4, H // DH, DH).swapaxes(0, 1).ravel()
        """,
        "a cell that reads b as (NH, 4, DH), head by head and then gate by gate, not as "
        "(4, NH, DH), as where R alone is taken from one of the official layouts to the other",
    ),
    Bug(
        "heads-interleaved",
        SLSTM,
        MAPS,
        """
        - R_heads, h_heads = R.reshape(H // DH, 4, DH, DH), h_prev.reshape(B, H // DH, DH)
        - Rh = np.einsum("ngij,bnj->bgni", R_heads, h_heads).reshape(B, 4 * H)
        + R_heads, h_heads = R.reshape(H // DH, 4, DH, DH), h_prev.reshape(B, DH, H // DH)
        + Rh = np.einsum("ngij,bjn->bgin", R_heads, h_heads).reshape(B, 4 * H)
        - R_heads, h_heads = R.reshape(H // DH, 4, DH, DH), h_prev.reshape(B, H // DH, DH)
        - dg = np.concatenate(dgates, axis=1)
        + R_heads, h_heads = R.reshape(H // DH, 4, DH, DH), h_prev.reshape(B, DH, H // DH)
        + dg = np.concatenate(dgates, axis=1)
        - dRh = dg.reshape(B, 4, H // DH, DH)
        + dRh = dg.reshape(B, 4, DH, H // DH)
        - dh_prev = np.einsum("ngij,bgni->bnj", R_heads, dRh).reshape(B, H)
        + dh_prev = np.einsum("ngij,bgin->bjn", R_heads, dRh).reshape(B, H)
        - dR = np.einsum("bgni,bnj->ngij", dRh, h_heads).reshape(R.shape)
        + dR = np.einsum("bgin,bjn->ngij", dRh, h_heads).reshape(R.shape)
        """,
        "a cell that gives neighbouring entries of h to different heads, not to one",
    ),
    Bug(
        "heads-see-first-head",
        SLSTM,
        MAPS,
        """
        - R_heads, h_heads = R.reshape(H // DH, 4, DH, DH), h_prev.reshape(B, H // DH, DH)
        - Rh = np.einsum("ngij,bnj->bgni", R_heads, h_heads).reshape(B, 4 * H)
        + Rh = np.einsum("ngij,bj->bgni", R.reshape(H // DH, 4, DH, DH), h_prev[:, :DH])
        + Rh = Rh.reshape(B, 4 * H)
        - dh_prev = np.einsum("ngij,bgni->bnj", R_heads, dRh).reshape(B, H)
        + dh_prev = np.zeros_like(h_prev)
        + dh_prev[:, :DH] = np.einsum("ngij,bgni->bj", R_heads, dRh)
        - dR = np.einsum("bgni,bnj->ngij", dRh, h_heads).reshape(R.shape)
        + dR = np.einsum("bgni,bj->ngij", dRh, h_prev[:, :DH]).reshape(R.shape)
        """,
        "a cell that gives every head the h of the first, as where ν·DH is missing in its index",
    ),
    Bug(
        "state-in-place",
        SLSTM,
        CELL,
        """
        - i_pre, f_pre, z_pre, o_pre = pre = pre_activations(x, h_prev, **self.params)
        + i_pre, f_pre, z_pre, o_pre = pre = pre_activations(x, h_prev, **self.params)
        + seen = h_prev.copy()
        + for unit in range(self.hidden_size):
        +     for old, new in zip(pre, pre_activations(x, seen, **self.params), strict=True):
        +         old[:, unit] = new[:, unit]
        +     A = log_gate(f_pre, self.forget_gate) + m_prev
        +     A = np.where((n_prev == 0) & underflows(i_pre - A), -np.inf, A)
        +     i, f = np.exp(i_pre - maximum(A, i_pre)), np.exp(A - maximum(A, i_pre))
        +     c, n = f * c_prev + i * np.tanh(z_pre), f * n_prev + i
        +     seen[:, unit] = (sigmoid(o_pre) * (c / n))[:, unit]
        """,
        "a cell that writes h over h before the step, unit by unit, so that the gates of later "
        "units see the new one",
    ),
]
