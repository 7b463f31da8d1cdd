"""Known mistakes in the backward of the mLSTM."""

from numpy_xlstm.cells.mlstm import mLSTMCell
from numpy_xlstm.cells.unroll import unroll_backward
from numpy_xlstm.conformance.bugs.bug import Bug
from numpy_xlstm.conformance.bugs.mlstm import ALL, CELL, MLSTM, WHOLE

BUGS = [
    Bug(
        "normaliser-constant",
        MLSTM,
        CELL,
        """
        - dqn = -np.sign(qn.real) * S / np.where(wins, den, np.inf)
        + dqn = np.zeros_like(qn)
        - dm = dm_next + np.where(wins | (clip(m) != m), 0, S * (floor / den))
        + dm = dm_next
        """,
        "a backward that takes the normaliser max(|q·n|, e^−m) for a constant",
        seen_in=("mlstm_kernels 2.0.6",),
    ),
    Bug(
        "normaliser-constant-in-products",
        MLSTM,
        CELL,
        """
        - dqn = -np.sign(qn.real) * S / np.where(wins, den, np.inf)
        + dqn = np.zeros_like(qn)
        """,
        "a backward that takes q·n for a constant in the denominator",
    ),
    Bug(
        "floor-constant",
        MLSTM,
        CELL,
        """
        - dm = dm_next + np.where(wins | (clip(m) != m), 0, S * (floor / den))
        + dm = dm_next
        """,
        "a backward that takes e^−m for a constant in the denominator, but not in the gates",
    ),
    Bug(
        "floor-missing-in-backward",
        MLSTM,
        CELL,
        """
        - floor = np.exp(-clip(m))
        + floor = np.zeros_like(m)
        """,
        "a backward that always takes |q·n| for the denominator, also where that is e^−m",
    ),
    Bug(
        "sign-missing",
        MLSTM,
        CELL,
        """
        - dqn = -np.sign(qn.real) * S / np.where(wins, den, np.inf)
        + dqn = -S / np.where(wins, den, np.inf)
        """,
        "a backward that forgets the slope of |q·n|, which is −1 where q·n is negative, as Eq 90 "
        "of the paper is printed",
    ),
    Bug(
        "kink-to-floor",
        MLSTM,
        CELL,
        """
        - wins = modulus(qn).real >= floor.real
        + wins = modulus(qn).real > floor.real
        """,
        "a backward that gives the denominator's gradient to e^−m where that is |q·n| exactly",
        flags=("kink",),
    ),
    Bug(
        "stabiliser-constant",
        MLSTM,
        CELL,
        """
        - dlog_i = np.where(here, dm - f * df, i * di)
        + dlog_i = i * di
        - dA = np.where(past, dm - i * di, f * df)
        + dA = f * df
        """,
        "a backward that takes m for a constant, which is exact only with eps = 0, and where no "
        "cotangent comes on C, n and m",
    ),
    Bug(
        "stabiliser-gradient-not-passed-on",
        MLSTM,
        CELL,
        """
        - dC_prev, dn_prev, dm_prev = f[..., None, None] * dC, f[..., None] * dn, dA
        + dC_prev, dn_prev, dm_prev = f[..., None, None] * dC, f[..., None] * dn, 0 * dA
        """,
        "a backward that gives m before the step no gradient",
    ),
    Bug(
        "tie-to-input-gate",
        MLSTM,
        CELL,
        """
        - past = self.normalised & (A.real >= log_i.real)
        + past = self.normalised & (A.real > log_i.real)
        - here = self.normalised & (A.real < log_i.real)
        + here = self.normalised & (A.real <= log_i.real)
        """,
        "a backward that gives the stabiliser's gradient to the input gate where the maximum is a "
        "tie, not to log f + m₋",
        flags=("tie",),
    ),
    Bug(
        "winner-by-forget-gate",
        MLSTM,
        CELL,
        """
        - past = self.normalised & (A.real >= log_i.real)
        + past = self.normalised & (f >= 1)
        - here = self.normalised & (A.real < log_i.real)
        + here = self.normalised & (f < 1)
        """,
        "a backward that gives the stabiliser's gradient to log f + m₋ where f′ = 1, also where "
        "f′ is only rounded to 1",
        flags=("near-tie",),
    ),
    Bug(
        "tie-in-halves",
        MLSTM,
        CELL,
        """
        - dlog_i = np.where(here, dm - f * df, i * di)
        + tie = A.real == log_i.real
        + dm = (dm - i * di - f * df) * self.normalised
        + dlog_i = i * di + np.where(tie, dm / 2, np.where(here, dm, 0))
        - dA = np.where(past, dm - i * di, f * df)
        + dA = f * df + np.where(tie, dm / 2, np.where(past, dm, 0))
        """,
        "a backward that halves the stabiliser's gradient where the maximum is a tie, as that of "
        "torch.maximum and jax.numpy.maximum does",
        flags=("tie",),
    ),
    Bug(
        "forget-gradient-from-memory-after",
        ALL,
        CELL,
        """
        - df = (C_prev * dC).sum(axis=(-2, -1)) + (n_prev * dn).sum(axis=-1)
        + df = (C * dC).sum(axis=(-2, -1)) + (n * dn).sum(axis=-1)
        """,
        "a backward that forms the forget gate's gradient with C and n after the step, not before",
    ),
    Bug(
        "gates-see-c-alone",
        MLSTM,
        CELL,
        """
        - dw = np.einsum("bhkv,bhv->bhk", dC, v) + dn
        + dw = np.einsum("bhkv,bhv->bhk", dC, v)
        - df = (C_prev * dC).sum(axis=(-2, -1)) + (n_prev * dn).sum(axis=-1)
        + df = (C_prev * dC).sum(axis=(-2, -1))
        """,
        "a backward of gates and keys through C alone, and not through n",
    ),
    Bug(
        "backward-with-unstabilised-gates",
        MLSTM,
        CELL,
        """
        - i_pre, f_pre, o_pre = pre
        + i_pre, f_pre, o_pre = pre
        + i, f = np.exp(i_pre), np.exp(log_gate(f_pre, self.forget_gate))
        - dlog_i = np.where(here, dm - f * df, i * di)
        + dm = (dm - i * di - f * df) * self.normalised
        + dlog_i = i * di + np.where(here, dm, 0)
        - dA = np.where(past, dm - i * di, f * df)
        + dA = f * df + np.where(past, dm, 0)
        """,
        "a backward with exp(ĩ) and f for i′ and f′, beside C and n that are divided by e^m",
    ),
    Bug(
        "output-gate-missing-in-backward",
        WHOLE,
        CELL,
        """
        - dh_tilde = (dh * o).reshape(h_tilde.shape)
        + dh_tilde = dh.reshape(h_tilde.shape)
        """,
        "a backward that takes h's gradient to C and n without the output gate",
    ),
    Bug(
        "output-gate-missing-in-normaliser-gradient",
        ("mlstm.s*",),
        CELL,
        """
        - S = (dh_tilde * h_tilde).sum(axis=-1)
        + S = (dh.reshape(h_tilde.shape) * h_tilde).sum(axis=-1)
        """,
        "a backward that forms the denominator's gradient with δh, not with o ∘ δh",
    ),
    Bug(
        "memory-gradient-without-denominator",
        MLSTM,
        CELL,
        """
        - dC = dC_next + q_bar[..., None] * dh_tilde[..., None, :]
        + dC = dC_next + q[..., None] * dh_tilde[..., None, :]
        """,
        "a backward that forms C's gradient with q, not with q over the denominator",
    ),
    Bug(
        "memory-path-without-forget-gate",
        ALL,
        CELL,
        """
        - dC_prev, dn_prev, dm_prev = f[..., None, None] * dC, f[..., None] * dn, dA
        + dC_prev, dn_prev, dm_prev = dC, dn, dA
        """,
        "a backward that takes C and n back without the forget gate",
    ),
    Bug(
        "memory-path-cut",
        MLSTM,
        CELL,
        """
        - dC_prev, dn_prev, dm_prev = f[..., None, None] * dC, f[..., None] * dn, dA
        + dC_prev, dn_prev, dm_prev = 0 * dC, f[..., None] * dn, dA
        """,
        "a backward that hands n's gradient to the step before, and not C's",
    ),
    Bug(
        "normaliser-path-cut",
        MLSTM,
        CELL,
        """
        - dC_prev, dn_prev, dm_prev = f[..., None, None] * dC, f[..., None] * dn, dA
        + dC_prev, dn_prev, dm_prev = f[..., None, None] * dC, 0 * dn, dA
        """,
        "a backward that hands C's gradient to the step before, and not n's",
    ),
    Bug(
        "forget-slope-missing",
        ALL,
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
        ALL,
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
        ALL,
        CELL,
        """
        - df_pre = dA * log_gate_slope(f_pre, self.forget_gate)
        + df_pre = dA * (sigmoid_slope(f_pre) if self.forget_gate == "sigmoid" else 1)
        """,
        "a backward that takes the slope of σ(f̃), not that of its logarithm",
        flags=("forget_gate=sigmoid",),
    ),
    Bug(
        "input-slope-missing",
        ("mlstmsig.*",),
        CELL,
        """
        - di_pre = dlog_i * log_gate_slope(i_pre, self.input_gate)
        + di_pre = dlog_i
        """,
        "a backward without the slope of log σ of the input gate",
    ),
    Bug(
        "input-slope-of-other-sign",
        ("mlstmsig.*",),
        CELL,
        """
        - di_pre = dlog_i * log_gate_slope(i_pre, self.input_gate)
        + di_pre = dlog_i * sigmoid(i_pre)
        """,
        "a backward that takes σ(ĩ) for the slope of log σ(ĩ), which is σ(−ĩ)",
    ),
    Bug(
        "input-gradient-from-values",
        MLSTM,
        CELL,
        """
        - di = (k * dw).sum(axis=-1)
        + di = (v * np.einsum("bhkv,bhk->bhv", dC, k)).sum(axis=-1)
        """,
        "a backward that takes v·δv for the input gate's gradient, which leaves the normaliser out",
    ),
    Bug(
        "gates-not-in-input-gradient",
        ALL,
        CELL,
        """
        - dx = dx + dg @ self.params[f"W_{g}"]
        + dx = dx + dg @ self.params[f"W_{g}"] if g in "qkv" else dx
        """,
        "a backward whose gradient of x is that through q, k and v alone, as Eq 65 of the paper "
        "prints it",
    ),
    Bug(
        "key-scale-missing-in-backward",
        ALL,
        CELL,
        """
        - dg = dg / root(q.shape[-1], x) if g == "k" else dg
        """,
        "a backward that does not divide k's gradient by √DK",
    ),
    Bug(
        "gradients-of-last-row-alone",
        WHOLE,
        CELL,
        """
        - grads[f"b_{g}"] = dg.sum(axis=0)
        + grads[f"b_{g}"] = dg[-1]
        - grads[f"W_{g}"] = dg.T @ x
        + grads[f"W_{g}"] = dg[-1:].T @ x[-1:]
        """,
        "a backward that begins the gradients of parameters anew in each row of the batch, and "
        "keeps those of the last",
    ),
    Bug(
        "sum-of-gradients-for-forget-gate",
        MLSTM,
        (mLSTMCell, unroll_backward),
        """
        - dstate = checked_cotangent(cell, dstate, B)
        + dstate = checked_cotangent(cell, dstate, B)
        + dstate = dstate._replace(m=np.zeros_like(dstate.m))
        - dlog_i = np.where(here, dm - f * df, i * di)
        + dlog_i = i * di
        - dA = np.where(past, dm - i * di, f * df)
        + dA = dm_next + (q * dq).sum(axis=-1) - (k * dk).sum(axis=-1)
        """,
        "a backward that sums q·δq − k·δk for the forget gate, and takes k·δk for the input gate, "
        "which leaves out what comes on the final C, n and m",
        seen_in=("mlstm_kernels 2.0.6",),
    ),
]
