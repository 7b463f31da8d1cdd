"""Draw a plot for each change of the page From LSTM to mLSTM: ``python -m docs.figures.changes``.

Needs the extra ``plot``, and takes a few seconds.
"""

from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure

from docs.figures.plots import (
    BLUE,
    BROWN,
    FAINT,
    FIRST,
    SECOND,
    STYLE,
    THIRD,
    WHITE,
    log_weights,
    save,
    shades,
)
from numpy_xlstm import LSTMCell, mlstm_recurrent, sLSTMCell
from numpy_xlstm.numerics import Array, log_sigmoid, sigmoid

RNG = np.random.default_rng


def wired(cell: Any, i: Array, f: Array, z: Array) -> dict[str, Array]:
    """Return h, the state and the gates of each step of a unit with the given ĩ, f̃ and z, o = 1."""
    cell.params["W"][:], cell.params["R"][:], cell.params["b"][:] = np.eye(4), 0, 0
    state, rows = cell.init_state(1), []
    for x in np.stack(np.broadcast_arrays(i, f, np.arctanh(z), 100.0), axis=-1):
        _, state, cache = cell.forward(x[None], state)
        rows.append({"i": cache.i, "f": cache.f} | state._asdict())
    return {name: np.array([row[name].item() for row in rows]) for name in rows[0]}


def panels(number: int, height: float = 2.5) -> tuple[Figure, Any]:
    """Return a figure and its axes, next to each other."""
    figure = Figure(figsize=(7, height), layout="constrained")
    return figure, figure.subplots(1, number)


def draw_exponential_gate() -> None:
    """(a) The weight of a value against the pre-activation of its input gate."""
    figure, axes = panels(1)
    x = np.linspace(-6, 10, 81)
    axes.plot(x, np.exp(x), color=FIRST, label="$e^{ĩ}$")
    axes.plot(x, sigmoid(x), color=SECOND, label="σ(ĩ)")
    axes.set(yscale="log", xlabel="pre-activation ĩ", ylabel="weight i")
    axes.legend()
    save(figure, "change-a.svg")


def averages(T: int = 24) -> tuple[Array, Array, Array]:
    """Return values, tanh(c) and c/n of a unit that stores them with random weights."""
    z = np.where(np.arange(T) < T // 2, 0.5, -0.4) + RNG(0).uniform(-0.2, 0.2, T)
    unit = wired(sLSTMCell(4, 1, forget_gate="exp"), RNG(1).normal(1, 1, T), np.full(T, -0.1), z)
    return z, np.tanh(unit["c"] * np.exp(unit["m"])), unit["h"]


def draw_normaliser() -> None:
    """(b) The tanh of a sum of values, and their average."""
    figure, axes = panels(1)
    z, squashed, average = averages()
    axes.plot(z, "o", color=FAINT, markersize=4, label="values z")
    axes.plot(squashed, color=SECOND, label="tanh(c)")
    axes.plot(average, color=FIRST, label="c/n")
    axes.set(xlabel="step", ylim=(-1.1, 1.1))
    axes.legend(ncols=3)
    save(figure, "change-b.svg")


def rising(T: int = 20) -> dict[str, Array]:
    """Return the numbers of a unit whose pre-activation ĩ rises by about 10 at each step."""
    i = 10.0 * np.arange(T) + RNG(2).normal(0, 8, T)
    return wired(sLSTMCell(4, 1), i, np.full(T, 3.0), np.full(T, 0.5))


def draw_stabiliser() -> None:
    """(c) The plain n, which overflows, and the stored numbers."""
    figure, (left, right) = panels(2)
    unit = rising()
    left.plot((np.log(unit["n"]) + unit["m"]) / np.log(10), color=SECOND)
    left.axhline(np.log10(np.finfo(np.float32).max), color=FAINT, linestyle="--")
    left.text(0, 41, "largest float32")
    left.set(xlabel="step", title="without m: powers of ten in n")
    for (name, label), colour in zip(
        (("n", "n"), ("i", "i′"), ("f", "f′")), (FIRST, THIRD, SECOND), strict=True
    ):
        right.plot(unit[name], color=colour, label=label)
    right.set(xlabel="step", ylim=(-0.1, 2.5), title="with m: n, i′ and f′")
    right.legend(ncols=3)
    save(figure, "change-c.svg")


def running_best(T: int = 24) -> tuple[Array, Array, Array, Array, Array]:
    """Return scores, values, the best so far, h of an sLSTM and c of an LSTM with these gates."""
    z, scores = RNG(3).uniform(-0.4, 0.9, T), RNG(12).normal(0, 60, T)
    best = z[[scores[: t + 1].argmax() for t in range(T)]]
    slstm = wired(sLSTMCell(4, 1, forget_gate="exp"), scores, np.zeros(T), z)
    return scores, z, best, slstm["h"], wired(LSTMCell(4, 1), scores, np.full(T, 100.0), z)["c"]


def draw_revision() -> None:
    """The value with the best score so far, held by an sLSTM and not by an LSTM."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    above, axes = figure.subplots(2, 1, sharex=True, height_ratios=(1, 2))
    scores, z, best, slstm, lstm = running_best()
    record = scores == np.maximum.accumulate(scores)
    above.bar(np.arange(len(z)), scores, color=[THIRD if r else FAINT for r in record])
    above.set(ylabel="score", title="a score higher than all before it: green", yticks=[0])
    axes.plot(z, "o", color=FAINT, markersize=4, label="values z")
    axes.plot(best, color=FAINT, linewidth=5, alpha=0.4, label="best so far")
    axes.plot(slstm, color=FIRST, label="h of the sLSTM")
    axes.plot(lstm, color=SECOND, label="c of the LSTM")
    axes.plot(np.flatnonzero(record), z[record], "o", color=THIRD, markersize=6, label="best")
    axes.set(xlabel="step", ylabel="value")
    axes.legend(fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    save(figure, "change-revising.svg")


def reach(num_heads: int, T: int = 4, H: int = 8) -> Array:
    """Return ∂h/∂h₀ of a random sLSTM after some steps: rows are outputs."""
    cell = sLSTMCell(3, H, num_heads=num_heads, rng=RNG(5))
    cell.params["R"][:] = RNG(6).normal(size=cell.params["R"].shape)
    state, caches = cell.init_state(H), []
    for x in RNG(7).standard_normal((T, 3)):  # one row of the batch for each output
        _, state, cache = cell.forward(np.tile(x, (H, 1)), state)
        caches.append(cache)
    dy, dstate = np.eye(H), None
    for cache in reversed(caches):
        _, dstate, _ = cell.backward(dy, cache, dstate)
        dy = np.zeros((H, H))
    return dstate.h  # type: ignore[no-any-return, union-attr]


def draw_heads() -> None:
    """(d) The outputs that depend on each part of h₀, with one head and with four."""
    figure, both = panels(2, 3.0)
    for axes, num_heads in zip(both, (1, 4), strict=True):
        found = reach(num_heads)
        heat_map(axes, found, f"{num_heads} head{'s' * (num_heads > 1)}", abs(found).max())
        axes.set(xlabel="unit of $h_0$", ylabel="unit of $h_4$")
    save(figure, "change-d.svg")


def heat_map(axes: Any, values: Array, title: str, most: float) -> None:
    """Draw a matrix: brown below 0, blue above."""
    axes.pcolormesh(values, cmap=shades(BROWN, WHITE, BLUE), vmin=-most, vmax=most)
    axes.set(title=title, aspect="equal", xticks=[], yticks=[])
    axes.invert_yaxis()
    axes.grid(visible=False)


def two_pairs() -> tuple[Array, Array, Array, Array]:
    """Return two keys, their values, the memory, and the values read with the keys as queries."""
    k = np.array([[1.0, 1, 0, 0], [1, -1, 0, 0]]) / np.sqrt(2)
    v = np.array([[1.0, -0.5, 0.3, -1], [-0.2, 0.8, 1, 0.6]])
    gates, read = np.zeros((1, 1, 2)), []
    for query in k:
        heads = (a[None, None] for a in (np.tile(query, (2, 1)), 2 * k, v))  # halved again
        h, state, _ = mlstm_recurrent(*heads, gates, gates, forget_gate="exp", eps=0)
        read.append(h[0, 0, -1])
    return k, v, state.C[0, 0] * np.exp(state.m.item()), np.array(read)


def draw_matrix_memory() -> None:
    """(e) Two pairs, the memory that holds both, and what is read."""
    figure, axes = panels(4, 2.2)
    k, v, C, read = two_pairs()
    titles = "$k_1 v_1^T$", "$k_2 v_2^T$", "$C$, their sum"
    for each, values, title in zip(axes, (*(k[:, :, None] * v[:, None]), C), titles, strict=False):
        heat_map(each, values, title, 1)
    heat_map(axes[3], np.stack([v[0], read[0], v[1], read[1]]), "$v_j$, and read", 1)
    axes[3].set_yticks(np.arange(4) + 0.5, ["$v_1$", "$q = k_1$", "$v_2$", "$q = k_2$"])
    save(figure, "change-e.svg")


def both_forms(T: int = 12) -> tuple[Array, Array, Array]:
    """Return the weights of the parallel form, and the outputs of both forms of one head."""
    q, k = RNG(8).standard_normal((2, T, 4))
    v = RNG(9).standard_normal((T, 1))
    i, f = RNG(10).normal(0, 1.5, T), RNG(11).normal(2, 1, T)
    D = log_weights(i, log_sigmoid(f))
    m = D.max(axis=1, keepdims=True)
    P = (q @ k.T / 2) * np.exp(D - m)
    parallel = P @ v / np.maximum(abs(P.sum(axis=1, keepdims=True)), np.exp(-m))
    h, _, _ = mlstm_recurrent(*(a[None, None] for a in (q, k, v, i, f)), eps=0)
    return np.exp(D - m), parallel[:, 0], h[0, 0, :, 0]


def draw_parallel_form() -> None:
    """(f) The weights of all steps at once, and the outputs of both forms."""
    figure, (left, right) = panels(2, 3.0)
    weights, parallel, recurrent = both_forms()
    left.pcolormesh(np.ma.masked_equal(weights, 0), cmap=shades(WHITE, BLUE), vmin=0, vmax=1)
    left.set(
        xlabel="written at step j", ylabel="read at step t", xticks=[], yticks=[], aspect="equal"
    )
    left.invert_yaxis()
    left.grid(visible=False)
    right.plot(parallel, "o", color=SECOND, label="matrix products")
    right.plot(recurrent, color=FIRST, label="step by step")
    right.set(xlabel="step t", title="an output", xticks=range(0, len(parallel), 2))
    right.legend()
    save(figure, "change-f.svg")


DRAW = (
    draw_exponential_gate,
    draw_normaliser,
    draw_stabiliser,
    draw_revision,
    draw_heads,
    draw_matrix_memory,
    draw_parallel_form,
)

if __name__ == "__main__":
    with rc_context(STYLE):
        for draw in DRAW:
            draw()
