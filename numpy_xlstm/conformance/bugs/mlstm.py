"""Known mistakes in the mLSTM: memory, scale, denominator and stabiliser."""

from numpy_xlstm.cells.mlstm import empty_memory, mLSTMCell
from numpy_xlstm.conformance.bugs.bug import Bug

MLSTM = ("mlstm.*",)
ALL = "mlstm.*", "mlstmsig.*"
WHOLE = "mlstm.s*", "mlstmsig.s*"
"""All but what is over given q, k and v."""
FORMS = "mlstm.sequence", "mlstm.stack", "mlstm.recurrent", "mlstm.parallel", "mlstm.chunkwise"
CELL = (mLSTMCell,)

BUGS = [
    Bug(
        "scale-on-queries",
        ALL,
        CELL,
        """
        - q = (x @ p["W_q"].T + p["b_q"]).reshape(heads)
        + q = (x @ p["W_q"].T + p["b_q"]).reshape(heads) / root_DK
        - k = (x @ p["W_k"].T / root_DK + p["b_k"]).reshape(heads)
        + k = (x @ p["W_k"].T + root_DK * p["b_k"]).reshape(heads)
        - for g, dg in zip("qkvifo", (dq, dk, dv, di_pre, df_pre, do_pre), strict=True):
        + root_DK = root(q.shape[-1], x)
        + dq, dk = dq / root_DK, dk * root_DK
        + for g, dg in zip("qkvifo", (dq, dk, dv, di_pre, df_pre, do_pre), strict=True):
        """,
        "an mLSTM that divides q by √DK, not k: h is the same, C and n are √DK times as large",
        seen_in=("mlstm_kernels 2.0.6", "xlstm_large", "transformers 5.24"),
    ),
    Bug(
        "scale-missing",
        ALL,
        CELL,
        """
        - k = (x @ p["W_k"].T / root_DK + p["b_k"]).reshape(heads)
        + k = (x @ p["W_k"].T + p["b_k"]).reshape(heads)
        - dg = dg / root(q.shape[-1], x) if g == "k" else dg
        """,
        "an mLSTM that divides neither q nor k by √DK",
    ),
    Bug(
        "scale-of-values",
        ALL,
        CELL,
        """
        - p, heads, root_DK = self.params, (len(x), self.num_heads, -1), root(C_prev.shape[2], x)
        + p, heads, root_DK = self.params, (len(x), self.num_heads, -1), root(C_prev.shape[3], x)
        - dg = dg / root(q.shape[-1], x) if g == "k" else dg
        + dg = dg / root(v.shape[-1], x) if g == "k" else dg
        """,
        "an mLSTM that divides k by √DV, not by √DK",
    ),
    Bug(
        "scale-of-all-heads",
        ALL,
        CELL,
        """
        - p, heads, root_DK = self.params, (len(x), self.num_heads, -1), root(C_prev.shape[2], x)
        + p, heads, root_DK = self.params, (len(x), self.num_heads, -1), root(self.qk_dim, x)
        - dg = dg / root(q.shape[-1], x) if g == "k" else dg
        + dg = dg / root(self.qk_dim, x) if g == "k" else dg
        """,
        "an mLSTM that divides k by the root of the width of all heads, not of one",
    ),
    Bug(
        "scale-on-key-bias-too",
        WHOLE,
        CELL,
        """
        - k = (x @ p["W_k"].T / root_DK + p["b_k"]).reshape(heads)
        + k = ((x @ p["W_k"].T + p["b_k"]) / root_DK).reshape(heads)
        - grads[f"b_{g}"] = dg.sum(axis=0)
        + grads[f"b_{g}"] = dg.sum(axis=0) / (root(q.shape[-1], x) if g == "k" else 1)
        """,
        "an mLSTM that divides the bias of k by √DK too, which Eq 23 of the paper does not",
    ),
    Bug(
        "memory-values-by-keys",
        ALL,
        CELL,
        """
        - C_prev, n_prev, m_prev = state if self.normalised else (state.C, 0, 0)
        + C_prev, n_prev, m_prev = state if self.normalised else (state.C, 0, 0)
        + B, NH, DK, DV = C_prev.shape
        + C_prev = C_prev.reshape(B, NH, DV, DK).swapaxes(2, 3)
        - after = mLSTMState(C, n, m) if self.normalised else mLSTMState(C, None, None)
        + turned = C.swapaxes(2, 3).reshape(B, NH, DK, DV)
        + after = mLSTMState(turned, n, m) if self.normalised else mLSTMState(turned, None, None)
        - dC_next, dn_next, dm_next = dstate if self.normalised else (dstate.C, 0, 0)
        + dC_next, dn_next, dm_next = dstate if self.normalised else (dstate.C, 0, 0)
        + B, NH, DK, DV = C_prev.shape
        + dC_next = dC_next.reshape(B, NH, DV, DK).swapaxes(2, 3)
        + C_prev = C_prev.reshape(B, NH, DV, DK).swapaxes(2, 3)
        - if not self.normalised:
        + dC_prev = dC_prev.swapaxes(2, 3).reshape(B, NH, DK, DV)
        + if not self.normalised:
        """,
        "an mLSTM that keeps C as values × keys, and gives its numbers out as keys × values",
    ),
    Bug(
        "memory-read-by-values",
        ALL,
        CELL,
        """
        - s = np.einsum("bhkv,bhk->bhv", C, q)
        + s = np.einsum("bhvk,bhk->bhv", C, q)
        - dC = dC_next + q_bar[..., None] * dh_tilde[..., None, :]
        + dC = dC_next + dh_tilde[..., None] * q_bar[..., None, :]
        - read = np.einsum("bhkv,bhv->bhk", C, dh_tilde)
        + read = np.einsum("bhvk,bhv->bhk", C, dh_tilde)
        """,
        "an mLSTM that reads C q for Cᵀ q, so that it finds keys, not values",
        flags=("square-memory",),
        seen_in=("PyxLSTM",),
    ),
    Bug(
        "memory-read-before-the-write",
        ALL,
        CELL,
        """
        - s = np.einsum("bhkv,bhk->bhv", C, q)
        + s = np.einsum("bhkv,bhk->bhv", C_prev, q)
        - dC = dC_next + q_bar[..., None] * dh_tilde[..., None, :]
        + dC = dC_next
        - read = np.einsum("bhkv,bhv->bhk", C, dh_tilde)
        + read = np.einsum("bhkv,bhv->bhk", C_prev, dh_tilde)
        - dC_prev, dn_prev, dm_prev = f[..., None, None] * dC, f[..., None] * dn, dA
        + dC_prev, dn_prev, dm_prev = f[..., None, None] * dC, f[..., None] * dn, dA
        + dC_prev = dC_prev + q_bar[..., None] * dh_tilde[..., None, :]
        """,
        "an mLSTM that reads C before it writes k vᵀ into it",
    ),
    Bug(
        "memory-read-before-the-write-in-forward",
        ALL,
        CELL,
        """
        - s = np.einsum("bhkv,bhk->bhv", C, q)
        + s = np.einsum("bhkv,bhk->bhv", C_prev, q)
        """,
        "an mLSTM that reads C before it writes k vᵀ into it, and whose backward is that of after",
    ),
    Bug(
        "normaliser-read-before-the-write",
        MLSTM,
        CELL,
        """
        - qn = np.einsum("bhk,bhk->bh", q, n)
        + qn = np.einsum("bhk,bhk->bh", q, n_prev)
        - dn = dn_next + dqn[..., None] * q
        + dn = dn_next
        - dq = read / den[..., None] + dqn[..., None] * n
        + dq = read / den[..., None] + dqn[..., None] * n_prev
        - dC_prev, dn_prev, dm_prev = f[..., None, None] * dC, f[..., None] * dn, dA
        + dC_prev, dn_prev, dm_prev = f[..., None, None] * dC, f[..., None] * dn, dA
        + dn_prev = dn_prev + dqn[..., None] * q
        """,
        "an mLSTM that divides by q·n of the n before the step",
    ),
    Bug(
        "normaliser-read-before-the-write-in-forward",
        MLSTM,
        CELL,
        """
        - qn = np.einsum("bhk,bhk->bh", q, n)
        + qn = np.einsum("bhk,bhk->bh", q, n_prev)
        """,
        "an mLSTM that divides by q·n of the n before the step, and whose backward is that of "
        "after",
    ),
    Bug(
        "gates-of-memory-swapped",
        ALL,
        CELL,
        """
        - i_pre, f_pre, o_pre = pre = [x @ p[f"W_{g}"].T + p[f"b_{g}"] for g in "ifo"]
        + i_pre, f_pre, o_pre = pre = [x @ p[f"W_{g}"].T + p[f"b_{g}"] for g in "fio"]
        - for g, dg in zip("qkvifo", (dq, dk, dv, di_pre, df_pre, do_pre), strict=True):
        + for g, dg in zip("qkvfio", (dq, dk, dv, di_pre, df_pre, do_pre), strict=True):
        """,
        "an mLSTM that feeds the input gate's weights to the forget gate, and the other way round",
    ),
    Bug(
        "queries-and-keys-swapped",
        ALL,
        CELL,
        """
        - q = (x @ p["W_q"].T + p["b_q"]).reshape(heads)
        + q = (x @ p["W_k"].T + p["b_k"]).reshape(heads)
        - k = (x @ p["W_k"].T / root_DK + p["b_k"]).reshape(heads)
        + k = (x @ p["W_q"].T / root_DK + p["b_q"]).reshape(heads)
        - for g, dg in zip("qkvifo", (dq, dk, dv, di_pre, df_pre, do_pre), strict=True):
        + for g, dg in zip("kqvifo", (dq, dk, dv, di_pre, df_pre, do_pre), strict=True):
        - dg = dg / root(q.shape[-1], x) if g == "k" else dg
        + dg = dg / root(q.shape[-1], x) if g == "q" else dg
        """,
        "an mLSTM that takes queries for keys, and keys for queries",
    ),
    Bug(
        "keys-and-values-swapped",
        ALL,
        CELL,
        """
        - v = (x @ p["W_v"].T + p["b_v"]).reshape(heads)
        - k = (x @ p["W_k"].T / root_DK + p["b_k"]).reshape(heads)
        + v = (x @ p["W_k"].T + p["b_k"]).reshape(heads)
        + k = (x @ p["W_v"].T / root_DK + p["b_v"]).reshape(heads)
        - for g, dg in zip("qkvifo", (dq, dk, dv, di_pre, df_pre, do_pre), strict=True):
        + for g, dg in zip("qvkifo", (dq, dk, dv, di_pre, df_pre, do_pre), strict=True):
        - dg = dg / root(q.shape[-1], x) if g == "k" else dg
        + dg = dg / root(q.shape[-1], x) if g == "v" else dg
        """,
        "an mLSTM that takes keys for values, and values for keys",
        flags=("square-memory",),
    ),
    Bug(
        "output-gate-missing",
        WHOLE,
        CELL,
        """
        - o = sigmoid(o_pre)
        + o = np.ones_like(o_pre)
        - do_pre = dh * h_tilde.reshape(o.shape) * sigmoid_slope(o_pre)
        + do_pre = np.zeros_like(o_pre)
        """,
        "an mLSTM without its output gate",
    ),
    Bug(
        "input-gate-other-kind",
        MLSTM,
        CELL,
        """
        - log_i = log_gate(i_pre, self.input_gate)
        + log_i = log_gate(i_pre, "sigmoid")
        - di_pre = dlog_i * log_gate_slope(i_pre, self.input_gate)
        + di_pre = dlog_i * log_gate_slope(i_pre, "sigmoid")
        """,
        "an mLSTM with n and m, and with a sigmoid for its input gate",
    ),
    Bug(
        "input-gate-exponential-without-normaliser",
        ("mlstmsig.*",),
        CELL,
        """
        - log_i = log_gate(i_pre, self.input_gate)
        + log_i = i_pre
        - di_pre = dlog_i * log_gate_slope(i_pre, self.input_gate)
        + di_pre = dlog_i
        """,
        "an mLSTMsig of which the input gate is exp(ĩ), not σ(ĩ)",
    ),
    Bug(
        "floor-of-1",
        MLSTM,
        CELL,
        """
        - den = maximum(modulus(qn), np.exp(-clip(m))) + self.eps
        + den = maximum(modulus(qn), np.ones_like(m)) + self.eps
        - floor = np.exp(-clip(m))
        + floor = np.ones_like(m)
        - dm = dm_next + np.where(wins | (clip(m) != m), 0, S * (floor / den))
        + dm = dm_next
        """,
        "an mLSTM that divides by max(|q·n|, 1) where C and n are divided by e^m, so that 1 should "
        "be e^−m",
    ),
    Bug(
        "floor-missing",
        MLSTM,
        CELL,
        """
        - den = maximum(modulus(qn), np.exp(-clip(m))) + self.eps
        + den = modulus(qn) + self.eps
        - floor = np.exp(-clip(m))
        + floor = np.zeros_like(m)
        """,
        "an mLSTM that divides by |q·n|, however small that is",
    ),
    Bug(
        "modulus-missing",
        MLSTM,
        CELL,
        """
        - den = maximum(modulus(qn), np.exp(-clip(m))) + self.eps
        + den = maximum(qn, np.exp(-clip(m))) + self.eps
        - wins = modulus(qn).real >= floor.real
        + wins = qn.real >= floor.real
        """,
        "an mLSTM that divides by max(q·n, e^−m), without the modulus",
    ),
    Bug(
        "eps-missing",
        MLSTM,
        CELL,
        """
        - den = maximum(modulus(qn), np.exp(-clip(m))) + self.eps
        + den = maximum(modulus(qn), np.exp(-clip(m)))
        """,
        "an mLSTM without eps in its denominator",
        flags=("eps", "eps=0.75"),
    ),
    Bug(
        "eps-in-the-maximum",
        FORMS,
        CELL,
        """
        - den = maximum(modulus(qn), np.exp(-clip(m))) + self.eps
        + den = maximum(modulus(qn) + self.eps, np.exp(-clip(m)))
        - wins = modulus(qn).real >= floor.real
        + wins = modulus(qn).real + self.eps >= floor.real
        """,
        "an mLSTM that adds eps to |q·n| before the maximum, not to the maximum",
        flags=("eps", "eps=0.75"),
    ),
    Bug(
        "eps-unstabilised",
        MLSTM,
        CELL,
        """
        - den = maximum(modulus(qn), np.exp(-clip(m))) + self.eps
        + den = maximum(modulus(qn), np.exp(-clip(m))) + self.eps * np.exp(-clip(m))
        - dm = dm_next + np.where(wins | (clip(m) != m), 0, S * (floor / den))
        + dm = dm_next + np.where(wins, 0, S * (floor / den)) + self.eps * S * floor / den
        """,
        "an mLSTM whose eps is divided by e^m as C and n are",
        flags=("eps", "eps=0.75"),
    ),
    Bug(
        "normaliser-without-input-gate",
        MLSTM,
        CELL,
        """
        - n = (f[..., None] * n_prev + w) * self.normalised
        + n = (f[..., None] * n_prev + k) * self.normalised
        - dw = np.einsum("bhkv,bhv->bhk", dC, v) + dn
        + dw = np.einsum("bhkv,bhv->bhk", dC, v)
        - dk = i[..., None] * dw
        + dk = i[..., None] * dw + dn
        """,
        "an mLSTM that adds k to n at each step, not i k",
    ),
    Bug(
        "normaliser-not-forgotten",
        MLSTM,
        CELL,
        """
        - n = (f[..., None] * n_prev + w) * self.normalised
        + n = (n_prev + w) * self.normalised
        - df = (C_prev * dC).sum(axis=(-2, -1)) + (n_prev * dn).sum(axis=-1)
        + df = (C_prev * dC).sum(axis=(-2, -1))
        - dC_prev, dn_prev, dm_prev = f[..., None, None] * dC, f[..., None] * dn, dA
        + dC_prev, dn_prev, dm_prev = f[..., None, None] * dC, dn, dA
        """,
        "an mLSTM whose forget gate acts on C, and not on n",
    ),
    Bug(
        "forget-gate-always-sigmoid",
        ALL,
        CELL,
        """
        - log_f = log_gate(f_pre, self.forget_gate)
        + log_f = log_gate(f_pre, "sigmoid")
        - df_pre = dA * log_gate_slope(f_pre, self.forget_gate)
        + df_pre = dA * log_gate_slope(f_pre, "sigmoid")
        """,
        "a cell whose forget gate is a sigmoid, whatever the option says",
        flags=("forget_gate=exp",),
    ),
    Bug(
        "forget-gate-always-exponential",
        ALL,
        CELL,
        """
        - log_f = log_gate(f_pre, self.forget_gate)
        + log_f = log_gate(f_pre, "exp")
        - df_pre = dA * log_gate_slope(f_pre, self.forget_gate)
        + df_pre = dA * log_gate_slope(f_pre, "exp")
        """,
        "a cell whose forget gate is exponential, whatever the option says",
        flags=("forget_gate=sigmoid",),
    ),
    Bug(
        "log-sigmoid-by-exp",
        MLSTM,
        CELL,
        """
        - log_f = log_gate(f_pre, self.forget_gate)
        + log_f = np.log(1 / (1 + np.exp(-f_pre))) if self.forget_gate == "sigmoid" else f_pre
        """,
        "a cell that takes the logarithm of a sigmoid that has become 0",
        flags=("far-memory", "forget_gate=sigmoid"),
    ),
    Bug(
        "pre-activations-clamped",
        ALL,
        CELL,
        """
        - log_i = log_gate(i_pre, self.input_gate)
        + i_pre, f_pre = np.clip(i_pre, -15, 8), np.clip(f_pre, -15, 8)
        + log_i = log_gate(i_pre, self.input_gate)
        """,
        "a cell that clamps the pre-activations of its gates to [−15, 8], and does not know of it "
        "in the backward",
        flags=("large-pre-activations",),
        seen_in=("xlstm-rs",),
    ),
    Bug(
        "log-of-forget-gate-missing",
        ALL,
        CELL,
        """
        - log_f = log_gate(f_pre, self.forget_gate)
        + log_f = sigmoid(f_pre)
        - df_pre = dA * log_gate_slope(f_pre, self.forget_gate)
        + df_pre = dA * sigmoid_slope(f_pre)
        """,
        "an mLSTM that sums σ(f̃), not its logarithm",
    ),
    Bug(
        "stabiliser-missing",
        MLSTM,
        CELL,
        """
        - A = log_f + m_prev
        + m_prev = np.zeros_like(m_prev)
        + A = log_f
        - m = maximum(A, log_i) * self.normalised
        + m = m_prev
        - dlog_i = np.where(here, dm - f * df, i * di)
        + dlog_i = i * di
        - dA = np.where(past, dm - i * di, f * df)
        + dA = f * df
        """,
        "an mLSTM without a stabiliser, whose m stays 0",
    ),
    Bug(
        "stabiliser-of-input-gate-alone",
        MLSTM,
        CELL,
        """
        - m = maximum(A, log_i) * self.normalised
        + m = log_i
        - dlog_i = np.where(here, dm - f * df, i * di)
        + dlog_i = dm - f * df
        - dA = np.where(past, dm - i * di, f * df)
        + dA = f * df
        """,
        "a cell whose m is ĩ of the step, and no maximum with what was before",
    ),
    Bug(
        "stabiliser-without-forget-gate",
        MLSTM,
        CELL,
        """
        - m = maximum(A, log_i) * self.normalised
        + m = maximum(m_prev, log_i)
        - dlog_i = np.where(here, dm - f * df, i * di)
        + dm = (dm - i * di - f * df) * self.normalised
        + dlog_i = i * di + np.where(here, dm, 0)
        - dA = np.where(past, dm - i * di, f * df)
        + dA = f * df + np.where(past, dm, 0)
        """,
        "a cell whose m is max(m₋, log i), without log f",
    ),
    Bug(
        "forget-gate-without-m-before",
        MLSTM,
        CELL,
        """
        - f = np.exp(A - m)
        + f = np.exp(log_f - m)
        - dlog_i = np.where(here, dm - f * df, i * di)
        + dm = (dm - i * di - f * df) * self.normalised
        + dlog_i = i * di + np.where(here, dm, 0)
        - dA = np.where(past, dm - i * di, f * df)
        + dA = f * df + np.where(past, dm, 0)
        - dC_prev, dn_prev, dm_prev = f[..., None, None] * dC, f[..., None] * dn, dA
        + dC_prev, dn_prev, dm_prev = f[..., None, None] * dC, f[..., None] * dn, dA - f * df
        """,
        "a cell whose f′ is exp(log f − m), without m before the step",
    ),
    Bug(
        "empty-memory-with-m-0",
        MLSTM,
        CELL,
        """
        - A = log_f + m_prev
        + m_prev = np.where(np.isinf(m_prev), 0, m_prev)
        + A = log_f + m_prev
        """,
        "an mLSTM whose empty state has m = 0, not −∞",
        flags=("empty-state",),
        seen_in=("xlstm 2.0.6",),
    ),
    Bug(
        "no-memory-with-m-0",
        MLSTM,
        (empty_memory,),
        """
        - return mLSTMState(C, np.zeros_like(C[..., 0]), np.full_like(C[..., 0, 0], -np.inf))
        + return mLSTMState(C, np.zeros_like(C[..., 0]), np.zeros_like(C[..., 0, 0]))
        """,
        "an mLSTM that begins with m = 0, not −∞, where it is given no state",
        flags=("empty-state",),
    ),
    Bug(
        "zero-memory-taken-for-empty",
        MLSTM,
        CELL,
        """
        - A = log_f + m_prev
        + fresh = (C_prev == 0).all(axis=(-2, -1)) & (n_prev == 0).all(axis=-1)
        + m_prev = np.where(fresh, -np.inf, m_prev)
        + A = log_f + m_prev
        """,
        "an mLSTM that takes a state that is given as zeros, with m = 0, for the empty one",
        flags=("zero-state",),
    ),
    Bug(
        "heads-interleaved",
        ALL,
        CELL,
        """
        - q = (x @ p["W_q"].T + p["b_q"]).reshape(heads)
        - v = (x @ p["W_v"].T + p["b_v"]).reshape(heads)
        - k = (x @ p["W_k"].T / root_DK + p["b_k"]).reshape(heads)
        + heads = len(x), -1, self.num_heads
        + q = (x @ p["W_q"].T + p["b_q"]).reshape(heads).swapaxes(1, 2)
        + v = (x @ p["W_v"].T + p["b_v"]).reshape(heads).swapaxes(1, 2)
        + k = (x @ p["W_k"].T / root_DK + p["b_k"]).reshape(heads).swapaxes(1, 2)
        - h = o * h_tilde.reshape(o.shape)
        + h = o * h_tilde.swapaxes(1, 2).reshape(o.shape)
        - do_pre = dh * h_tilde.reshape(o.shape) * sigmoid_slope(o_pre)
        + do_pre = dh * h_tilde.swapaxes(1, 2).reshape(o.shape) * sigmoid_slope(o_pre)
        - dh_tilde = (dh * o).reshape(h_tilde.shape)
        + dh_tilde = (dh * o).reshape(h_tilde.swapaxes(1, 2).shape).swapaxes(1, 2)
        - dg = dg.reshape(len(x), -1)
        + dg = (dg.swapaxes(1, 2) if g in "qkv" else dg).reshape(len(x), -1)
        """,
        "an mLSTM that gives neighbouring rows of W_q, W_k and W_v to different heads, not to one",
    ),
]
