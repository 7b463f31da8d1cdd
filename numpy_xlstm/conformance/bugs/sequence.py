"""Known mistakes in what goes on over time: states, cotangents, lengths, and directions."""

from typing import Any

from numpy_xlstm.cells.elman import ElmanCell
from numpy_xlstm.cells.gru import GRUCell
from numpy_xlstm.cells.gru_original import OriginalGRUCell
from numpy_xlstm.cells.lstmp import LSTMPCell
from numpy_xlstm.cells.mlstm import mLSTMCell
from numpy_xlstm.cells.peephole import PeepholeLSTMCell
from numpy_xlstm.cells.unroll import unroll, unroll_backward
from numpy_xlstm.conformance.bugs.bug import Bug
from numpy_xlstm.door import enter_backward
from numpy_xlstm.layers.stacked import Stacked, reverse_steps

WITH_STEPS = "sequence", "stack", "recurrent", "parallel", "chunkwise"
"""What has steps."""

FIELDS = {
    "h": ("lstm", "slstm", "gru", "original-gru", "elman", "peephole", "lstmp"),
    "c": ("lstm", "slstm", "peephole", "lstmp"),
    "C": ("mlstm", "mlstmsig"),
    "n": ("slstm", "mlstm"),
    "m": ("slstm", "mlstm"),
}
"""The parts of states, and which families have them."""

PARTS = {
    family: [name for name, families in FIELDS.items() if family in families]
    for family in dict.fromkeys(family for families in FIELDS.values() for family in families)
}
"""The parts of the state of each family."""

RETURNED: list[tuple[str, str, Any, str]] = [
    ("h", "gru", GRUCell, 'dh_prev = z * dh + ds @ self.params["R"]'),
    (
        "h",
        "original-gru",
        OriginalGRUCell,
        "dh_prev = z * dh + r * ds + dr_pre @ R_r + dz_pre @ R_z",
    ),
    ("h", "elman", ElmanCell, 'dh_prev = dh_pre @ self.params["R"]'),
    ("h", "lstmp", LSTMPCell, 'dh_prev = da @ self.params["R"]'),
    ("c", "lstmp", LSTMPCell, "dc_prev = f * dc"),
    ("c", "peephole", PeepholeLSTMCell, "dc_prev = f * dc + p_i * di_pre + p_f * df_pre"),
]
"""What the backward of a step returns of the state before, where no path of a cell is that."""

SEQUENCES = tuple(f"*.{kind}" for kind in WITH_STEPS)
STACKS = ("*.stack",)
BOTH = unroll, unroll_backward


def of_field(name: str, families: tuple[str, ...]) -> list[Bug]:
    """What can be forgotten of one part of a state."""
    subjects = tuple(f"{family}.{kind}" for family in families for kind in WITH_STEPS)
    seen_in = ("mlstm_kernels 2.0.6",) if name in "nm" else ()
    return [
        Bug(
            f"cotangent-of-final-{name}-dropped",
            tuple(f"{family}.step" for family in families),
            (enter_backward,),
            f"""
            - return checked_cotangent(cell, dstate, len(dh))
            + dstate = checked_cotangent(cell, dstate, len(dh))
            + return dstate._replace({name}=np.zeros_like(dstate.{name}))
            """,
            f"a backward that takes no cotangent on the final {name}",
        ),
        Bug(
            f"cotangent-of-final-{name}-dropped",
            subjects,
            (unroll_backward,),
            f"""
            - dstate = checked_cotangent(cell, dstate, B)
            + dstate = checked_cotangent(cell, dstate, B)
            + dstate = dstate._replace({name}=np.zeros_like(dstate.{name}))
            """,
            f"a backward that takes no cotangent on the final {name}",
            seen_in=seen_in,
        ),
        Bug(
            f"gradient-of-initial-{name}-dropped",
            subjects,
            (unroll_backward,),
            f"""
            - return dxs, dstate, grads
            + return dxs, dstate._replace({name}=np.zeros_like(dstate.{name})), grads
            """,
            f"a backward that returns no gradient of the initial {name}",
            seen_in=("mlstm_kernels 2.0.6", "flashrnn 1.0.8") if name == "m" else (),
        ),
    ]


def not_returned(name: str, family: str, cell: Any, line: str) -> Bug:
    """A step that gives the state before it no gradient."""
    return Bug(
        f"gradient-of-initial-{name}-dropped",
        (f"{family}.step",),
        (cell,),
        f"""
        - {line}
        + d{name}_prev = np.zeros_like(d{name})
        """,
        f"a backward that returns no gradient of the initial {name}",
    )


BUGS = [
    *(bug for name, families in FIELDS.items() for bug in of_field(name, families)),
    *(not_returned(*each) for each in RETURNED),
    Bug(
        "gradient-of-initial-h-dropped",
        ("peephole.step",),
        (PeepholeLSTMCell,),
        """
        - dx, dh_prev = da @ self.params["W"], da @ self.params["R"]
        + dx, dh_prev = da @ self.params["W"], np.zeros_like(dh)
        """,
        "a backward that returns no gradient of the initial h",
    ),
    Bug(
        "gradient-of-initial-C-dropped",
        ("mlstmsig.step",),
        (mLSTMCell,),
        """
        - dC_prev, dn_prev, dm_prev = f[..., None, None] * dC, f[..., None] * dn, dA
        + dC_prev, dn_prev, dm_prev = np.zeros_like(dC), f[..., None] * dn, dA
        """,
        "a backward that returns no gradient of the initial C",
    ),
    Bug(
        "cotangent-of-final-state-dropped",
        tuple(f"{family}.step" for family, parts in PARTS.items() if parts[1:]),
        (enter_backward,),
        """
        - return checked_cotangent(cell, dstate, len(dh))
        + return checked_cotangent(cell, None, len(dh))
        """,
        "a backward that takes no cotangent on the final state",
    ),
    Bug(
        "cotangent-of-final-state-dropped",
        tuple(f"{f}.{kind}" for f, parts in PARTS.items() if parts[1:] for kind in WITH_STEPS),
        (unroll_backward,),
        """
        - dstate = checked_cotangent(cell, dstate, B)
        + dstate = checked_cotangent(cell, None, B)
        """,
        "a backward that takes no cotangent on the final state",
    ),
    Bug(
        "initial-state-ignored",
        SEQUENCES,
        BOTH,
        """
        - state = checked_state(cell, state, B)
        + state = checked_state(cell, None, B)
        - return dxs, dstate, grads
        + return dxs, tree_map(np.zeros_like, dstate), grads
        """,
        "a sequence that begins in the empty state, whatever it is given",
    ),
    Bug(
        "initial-state-returned",
        SEQUENCES,
        (unroll,),
        """
        - state = checked_state(cell, state, B)
        + before = state = checked_state(cell, state, B)
        - return ys, state, UnrollCache(caches, live)
        + return ys, before, UnrollCache(caches, live)
        """,
        "a sequence that returns the state it was given, not the one after it",
    ),
    Bug(
        "cotangent-of-last-output-doubled",
        SEQUENCES,
        (unroll_backward,),
        """
        - dy = _where(row, dys[:, t], 0)
        + dy = _where(row, dys[:, t], 0) * (2 if t == T - 1 else 1)
        """,
        "a backward that counts the cotangent of the last output twice, once as that of the final "
        "h",
    ),
    Bug(
        "gradients-of-first-step-alone",
        ("*.sequence", "*.stack", "lstm.recurrent", "slstm.recurrent"),
        (unroll_backward,),
        """
        - grads = {name: grads[name] + found[name] for name in grads}
        + grads = found
        """,
        "a backward that keeps the parameters' gradients of one step, and does not sum over steps",
    ),
    Bug(
        "time-truncated",
        SEQUENCES,
        (unroll_backward,),
        """
        - dstate = tree_map(lambda a, b, row=row: _where(row, a, b), dbefore, dstate)
        + dstate = tree_map(lambda a, b, row=row: _where(row, 0 * a, b), dbefore, dstate)
        """,
        "a backward that takes the state before each step for a constant",
    ),
    Bug(
        "first-step-not-taken-back",
        SEQUENCES,
        (unroll_backward,),
        """
        - for t in reversed(range(T)):
        + for t in reversed(range(1, T)):
        """,
        "a backward whose loop over time ends one step too early, as with t > 0 for t >= 0",
    ),
    Bug(
        "gradient-of-h-carried-twice",
        tuple(f"{family}.{kind}" for family in FIELDS["h"] for kind in WITH_STEPS),
        (unroll_backward,),
        """
        - dstate = tree_map(lambda a, b, row=row: _where(row, a, b), dbefore, dstate)
        + dstate = tree_map(lambda a, b, row=row: _where(row, a, b), dbefore, dstate)
        + dstate = dstate._replace(h=2 * dstate.h) if t else dstate
        """,
        "a backward that hands h's gradient to the step before twice, in the state and in the "
        "cotangent of its output",
    ),
    Bug(
        "lengths-ignored",
        SEQUENCES,
        (unroll,),
        """
        - live = np.arange(T) < steps[:, None]
        + live = np.ones((B, T), bool)
        """,
        "a sequence that takes padding for steps",
        flags=("padding",),
        seen_in=("onnx 1.23.2, op_lstm.py", "transformers 5.24"),
    ),
    Bug(
        "state-runs-on-through-padding",
        SEQUENCES,
        BOTH,
        """
        - xs = np.where(live[..., None], xs, 0)

        - state = tree_map(lambda a, b, row=live[:, t]: _where(row, a, b), after, state)
        + state = after
        - dnow = tree_map(lambda d, row=row: _where(row, d, 0), dstate)
        + dnow = dstate
        - dstate = tree_map(lambda a, b, row=row: _where(row, a, b), dbefore, dstate)
        + dstate = dbefore
        """,
        "a sequence that masks its outputs, but not its state, at padding",
        flags=("padding",),
    ),
    Bug(
        "last-output-repeated-at-padding",
        SEQUENCES,
        BOTH,
        """
        - ys[:, t] = _where(live[:, t], y, 0)
        + ys[:, t] = _where(live[:, t], y, ys[:, t - 1])
        - dy = _where(row, dys[:, t], 0)
        + dy, dys = _where(row, dys[:, t], 0), dys.copy()
        + dys[:, t - 1] += np.where(row[:, None], 0, dys[:, t])
        """,
        "a sequence that repeats its last output at padding, as Keras does unless told, not 0",
        flags=("padding",),
    ),
    Bug(
        "cotangents-at-padding",
        SEQUENCES,
        (unroll_backward,),
        """
        - dy = _where(row, dys[:, t], 0)
        + dy = dys[:, t]
        """,
        "a backward that takes the cotangents of outputs at padding into the gradients",
        flags=("padding",),
    ),
    Bug(
        "gradient-lost-in-padding",
        SEQUENCES,
        (unroll_backward,),
        """
        - dstate = tree_map(lambda a, b, row=row: _where(row, a, b), dbefore, dstate)
        + dstate = tree_map(lambda a, row=row: _where(row, a, 0), dbefore)
        """,
        "a backward that sets the state's gradient to 0 at padding, and so loses what comes on the "
        "final state",
        flags=("padding",),
    ),
    Bug(
        "no-steps-no-state",
        SEQUENCES,
        BOTH,
        """
        - return ys, state, UnrollCache(caches, live)
        + state = tree_map(lambda a: _where(steps > 0, a, 0), state)
        + return ys, state, UnrollCache(caches, live)
        - dstate = checked_cotangent(cell, dstate, B)
        + dstate = checked_cotangent(cell, dstate, B)
        + dstate = tree_map(lambda d: _where(cache.live.any(axis=1), d, 0), dstate)
        """,
        "a sequence that returns a state of 0 for a row without steps, not the state it was given",
        flags=("padding",),
        seen_in=("onnxruntime 1.31.1",),
    ),
    Bug(
        "reverse-outputs-not-turned-back",
        STACKS,
        (Stacked,),
        """
        - ys.append(turn(y))
        + ys.append(y)
        - dx, dbefore, found = layer.compute_backward(turn(part), kept, dafter)
        + dx, dbefore, found = layer.compute_backward(part, kept, dafter)
        """,
        "a stack whose reverse direction gives its outputs in its own order of time",
    ),
    Bug(
        "reverse-begins-in-padding",
        STACKS,
        (reverse_steps,),
        """
        - if lengths is None:
        + if True:
        """,
        "a stack whose reverse direction turns each row around with its padding",
        flags=("padding",),
    ),
    Bug(
        "reverse-direction-first",
        STACKS,
        (Stacked,),
        """
        - x = ys[0] if directions == 1 else np.concatenate(ys, axis=-1)
        + x = ys[0] if directions == 1 else np.concatenate(ys[::-1], axis=-1)
        - dy, part = np.split(dy, [-layer.out_features], axis=-1)
        + part, dy = np.split(dy, [layer.out_features], axis=-1)
        """,
        "a stack that writes the outputs of the reverse direction before those of the forward one",
    ),
    Bug(
        "states-direction-by-direction",
        STACKS,
        (Stacked,),
        """
        - for level, directions in enumerate(self.directions):
        + num, ways = len(self.directions), max(self.directions)
        + state = [state[k % ways * num + k // ways] for k in range(num * ways)]
        + each = zip(self.layers, state, strict=True)
        + for level, directions in enumerate(self.directions):
        - return x, tuple(after), cache
        + return x, tuple(after[k % num * ways + k // num] for k in range(num * ways)), cache
        - before, grads = [], []
        + num, ways = len(self.directions), max(self.directions)
        + dstate = [dstate[k % ways * num + k // ways] for k in range(num * ways)]
        + before, grads = [], []
        - return dy, tuple(reversed(before)), self.named_grads(layers=grads[::-1])
        + before = [before[::-1][k % num * ways + k // num] for k in range(num * ways)]
        + return dy, tuple(before), self.named_grads(layers=grads[::-1])
        """,
        "a stack that has the states of all layers forward before those of all layers reverse, not "
        "layer by layer",
    ),
    Bug(
        "reverse-gradient-dropped",
        STACKS,
        (Stacked,),
        """
        - dy = self.between.compute_backward(sum(dxs[1:], dxs[0]), dropped)
        + dy = self.between.compute_backward(dxs[-1], dropped)
        """,
        "a backward that gives the layer below the gradient of the forward direction alone",
    ),
]
