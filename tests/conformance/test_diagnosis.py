"""A mistake is named only if no case contradicts it, and every other report has a lead."""

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from numpy_xlstm import GRUCell, LSTMCell, mLSTMCell, sLSTMCell
from numpy_xlstm.cells.gates import pre_activations_backward
from numpy_xlstm.conformance import Case, verify
from numpy_xlstm.conformance.bugs import BUGS, Bug, known, results
from numpy_xlstm.conformance.bugs.changes import Changes
from numpy_xlstm.conformance.contrast import Difference, error
from numpy_xlstm.conformance.diagnosis import diagnose, searches
from numpy_xlstm.conformance.evidence import Runs, differing, is_derivative
from numpy_xlstm.numerics import Array, Arrays
from tests.conformance.shared import cases, diagnosed, mistake


def said(subject: str, cell: Any, change: str, flags: set[str] | None = None) -> str:
    """Return the diagnosis of a port with an unlisted mistake, in cases with only these flags."""
    bug, every = Bug("mine", (), (cell,), change, ""), cases(subject, "float64")
    chosen = [case for case in every if flags is None or {*case.flags} <= flags]
    report = verify(chosen, lambda case: results(case, bug))
    assert not report.passed
    return "\n".join(report.diagnosis)


def test_a_change_of_one_line_is_shown() -> None:
    text = said("gru.step", GRUCell, "dn_pre = dh * z * tanh_slope(n_pre)")
    assert "with one line of `backward` changed" in text
    assert text.endswith(
        "- dn_pre = dh * u * tanh_slope(n_pre)\n    + dn_pre = dh * z * tanh_slope(n_pre)"
    )


def test_a_state_that_begins_with_m_0_is_named_in_both_dtypes() -> None:
    bug = mistake("no-state-with-m-0", "slstm.step")
    chosen = [c for c in cases("slstm.step") if not c.flags or "empty-state" in c.flags]
    text = "\n".join(verify(chosen, lambda case: results(case, bug)).diagnosis)
    assert "(no-state-with-m-0)" in text
    assert "4 of 4 failed cases are edge cases" in text
    (case,) = [c for c in cases("slstm.step", "float64") if "exp.no-state" in c.id]
    dx = results(case, bug)["dx"]
    assert is_derivative(case, (bug,), "dx", dx)
    assert not is_derivative(case, (bug,), "dx", 1.5 * dx)


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("c = np.clip(f * c_prev + i * z, -1, 1)", "(c-limited)"),
        (
            "i, f, o = (np.clip(a / 6 + 0.5, 0, 1) for a in (i_pre, f_pre, o_pre))",
            "(hard-sigmoid-of-6)",
        ),
        (
            "z = np.clip(z_pre, -1, 1)\n- h = o * np.tanh(c)\n+ h = o * np.clip(c, -1, 1)",
            "(hard-tanh)",
        ),
        ("dpre = di_pre, dz_pre, df_pre, do_pre", "+ dpre = (di_pre, dz_pre, df_pre, do_pre)"),
        (
            "- do_pre = dh * np.tanh(c) * sigmoid_slope(o_pre)\n"
            "+ do_pre = dh * np.tanh(c) * (s := sigmoid(sigmoid(o_pre))) * (1 - s)\n"
            "- di_pre = dc * z * sigmoid_slope(i_pre)\n"
            "+ di_pre = dc * z * (s := sigmoid(sigmoid(i_pre))) * (1 - s)\n"
            "- df_pre = dc * c_prev * sigmoid_slope(f_pre)\n"
            "+ df_pre = dc * c_prev * (s := sigmoid(sigmoid(f_pre))) * (1 - s)",
            "(slopes-at-gates)",
        ),
        (
            "dpre = [np.clip(d, -1, 1) for d in (di_pre, df_pre, dz_pre, do_pre)]",
            "(gradients-of-pre-activations-clipped-to-1)",
        ),
        ("di_pre = dc * z * (1 - i)", "+ di_pre = dc * z * sigmoid(-i_pre)"),
    ],
)
def test_a_limit_another_function_and_another_order_are_named(line: str, named: str) -> None:
    assert named in said("lstm.step", LSTMCell, line, {"one-row"})


def test_a_number_in_the_place_of_another_is_no_limit() -> None:
    """A state that is infinite is written as a number, and an output and a gradient are 0."""

    def port(case: Case) -> Arrays:
        found = dict(case.results())
        infinite = np.where(np.isinf(found["final.m"]), -1e30, found["final.m"])
        return found | {"final.m": infinite, "y": 0 * found["y"], "dx": 0 * found["dx"]}

    chosen = [c for c in cases("mlstm.sequence", "float64") if "no-state" in c.id][:2]
    text = "\n".join(verify(chosen, port).diagnosis)
    assert "clips" not in text
    assert "failed with" not in text


@pytest.mark.long
def test_two_changes_of_lines_that_share_gradients_are_shown() -> None:
    query = """- read = np.einsum("bhkv,bhv->bhk", C, dh_tilde)
        + read = np.einsum("bhkv,bhv->bhk", C_prev, dh_tilde)"""
    text = said("mlstm.step", mLSTMCell, f"{query}\ndi = (k * dk).sum(axis=-1)", {"one-row"})
    assert text.count("with one line of `backward` changed") == 2
    assert "+ read = np.einsum('bhkv,bhv->bhk', C_prev, dh_tilde)" in text
    assert "+ di = (k * dk).sum(axis=-1)" in text


@pytest.mark.parametrize(
    ("subject", "cell", "line"),
    [
        ("slstm.step", sLSTMCell, "n = np.exp(log_gate(f_pre, self.forget_gate)) * n_prev + i"),
        ("gru.step", GRUCell, "r, z, u = (sigmoid(r_pre + 1), sigmoid(z_pre), sigmoid(-z_pre))"),
        ("gru.step", GRUCell, "dr_pre = dn_pre * h_prev * sigmoid_slope(r_pre)"),
        ("gru.step", GRUCell, "n_pre = r * (a_n + s_n)"),
        ("slstm.step", sLSTMCell, "df_pre = dA * log_gate_slope(f_pre, 'sigmoid')"),
        ("lstm.step", LSTMCell, "dc = dc_next + dh * o[:1] * tanh_slope(c)"),
        ("mlstm.step", mLSTMCell, "n = f[:, :1][..., None] * n_prev + w"),
        ("gru.step", GRUCell, "dx = da[..., -1:] @ self.params['W'][..., -1:, :]"),
        (
            "mlstm.step",
            mLSTMCell,
            "dv = i[..., None] * np.einsum('bhkv,bhk->bhv', dC[:, :, -1:, :], k[:, :, -1:])",
        ),
    ],
)
def test_a_change_of_one_line_is_shown_as_it_is(subject: str, cell: Any, line: str) -> None:
    assert f"+ {line}" in said(subject, cell, line, {"one-row"})


def test_a_known_mistake_in_the_forward_alone_is_named() -> None:
    text = said("gru.step", GRUCell, "- h = u * n + z * h_prev\n+ h = z * n + u * h_prev")
    assert "(update-gate-reversed)" in text
    assert "of this wrong forward" not in text


def test_a_mistake_that_a_case_contradicts_is_not_named() -> None:
    """Mistakes of eps are known, but none that limits it."""
    text = said(
        "mlstm.step",
        mLSTMCell,
        """
        - den = maximum(modulus(qn), np.exp(-clip(m))) + self.eps
        + den = maximum(modulus(qn), np.exp(-clip(m))) + min(self.eps, 0.5)
        """,
    )
    assert "no known mistake gives these numbers" in text
    assert "it fails in every case with eps = 0.75, and in no other" in text
    assert "each of these cases has the flag eps: eps is 0, or so large" in text


def test_what_a_mistake_does_not_explain_is_said() -> None:
    def port(case: Case) -> Arrays:
        found = results(case, averaged)
        rows = len(case.inputs["x"])
        return found | {"grads.R": found["grads.R"] * (1.5 if rows == 1 else 1)}

    averaged = Bug("", (), (pre_activations_backward,), "db = dpre.mean(axis=0)", "")
    chosen = cases("lstm.step", "float64")
    text = "\n".join(verify(chosen, port).diagnosis)
    assert f"this explains {len(chosen) - 1} of {len(chosen)} failed cases; grads.R is not" in text
    assert (
        "grads.R is not explained in one-row.float64\n    in one-row.float64 only grads.R (1"
        in text
    )
    assert (
        "1.5 times the expected numbers) is not explained\n    the rest fails in every case with"
        in text
    )


def test_the_gradients_of_another_forward_are_recognised() -> None:
    """A port by automatic differentiation has the right backward of a wrong forward."""
    text = said(
        "slstm.step",
        sLSTMCell,
        """
        c = f * c_prev - i * z
        di = dn - dc * z
        dz_pre = -dc * i * tanh_slope(z_pre)
        """,
    )
    assert "no known mistake" not in text
    assert "not explained" not in text
    assert "of this wrong forward" in text


def test_the_same_memory_in_another_gauge_is_recognised() -> None:
    def port(case: Case) -> Arrays:
        found = dict(case.results())
        found["final.m"] = found["final.m"] + 1
        for name in ("final.c", "final.n"):
            found[name] = found[name] * np.exp(-1)
        return found

    text = "\n".join(verify(cases("slstm.step", "float64"), port).diagnosis)
    assert "c·e^m and n·e^m of the final state are right: the same memory, with another m" in text


def halved_with_noise(case: Case) -> Arrays:
    """A port whose numbers no change of a line gives."""
    rng = np.random.default_rng(0)
    return {n: a * (0.5 + 0.1 * rng.random(a.shape)) for n, a in case.expected.items()}


def test_lines_are_changed_within_a_budget() -> None:
    chosen = cases("gru.step", "float64")
    runs = Runs()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("numpy_xlstm.conformance.diagnosis.RUNS", 5)
        diagnosed([(case, halved_with_noise(case)) for case in chosen], runs=runs)
    assert runs.left == 0


def test_known_mistakes_are_tried_within_a_budget() -> None:
    chosen = [case for case in cases("gru", "float64") if not case.flags]
    failed = [(case, halved_with_noise(case)) for case in chosen]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("numpy_xlstm.conformance.diagnosis.RUNS", 5)
        first, *others = diagnose(failed)
    assert "no known mistake gives these numbers" in first
    assert len(others) == 2
    assert all("not searched for known mistakes" in line for line in others)
    assert all("\n    y, final." in line for line in others)


def test_a_mistake_found_in_one_subject_is_tried_first_in_the_next() -> None:
    change = "- h = u * n + z * h_prev\n+ h = u * n + u * h_prev"
    bug, runs = Bug("mine", (), (GRUCell,), change, ""), Runs()
    chosen = [cases(f"gru.{name}", "float64")[0] for name in ("step", "sequence")]
    first, second = searches([(case, results(case, bug)) for case in chosen], runs=runs)
    assert first.made == second.made != ()
    assert {key[1:] for key in runs.known if key[0].id == chosen[1].id} == {first.made}


def test_a_report_without_the_source_has_clues(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_source(*_: Any) -> None:
        raise ValueError("expected the source; got none")

    monkeypatch.setattr("numpy_xlstm.conformance.diagnosis.instrumented", without_source)
    (line,) = diagnose([(c, halved_with_noise(c)) for c in cases("gru.step", "float64")])
    assert "no known mistake gives these numbers" in line
    assert "y, final.h are wrong" in line


@pytest.mark.parametrize(("factor", "right"), [(1, True), (1.001, False)])
def test_the_gradient_of_a_state_that_is_one_array_is_checked(factor: float, right: bool) -> None:
    case = cases("layer.causal-conv1d", "float64")[0]
    assert is_derivative(case, (), "dstate0", factor * case.expected["dstate0"]) == right


LATER = pytest.param("padding", "zero-memory", marks=pytest.mark.long)


@pytest.mark.parametrize(("flag", "named"), [LATER, ("one-head", "one-head")])
def test_a_mistake_that_a_passed_case_contradicts_leaves_a_report(flag: str, named: str) -> None:
    """A port may have a mistake everywhere but in some cases; a memory of zeros hides this one."""
    clamped = mistake("normaliser-clamped", "slstm.step")

    def port(case: Case) -> Arrays:
        return case.results() if flag in case.flags else results(case, clamped)

    every = cases("slstm.sequence", "float64")
    chosen = [case for case in every if flag == "padding" or {*case.flags} <= {flag, "one-row"}]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("numpy_xlstm.conformance.diagnosis.RUNS", 50)
        (line,) = verify(chosen, port).diagnosis
    assert "no known mistake gives these numbers" in line
    assert f"it passes in every case with the flag {named}" in line


def test_a_memory_in_another_layout_leaves_a_report() -> None:
    def port(case: Case) -> Arrays:
        found = dict(case.results())
        return found | {"final.m": found["final.m"] + 1, "final.C": found["final.C"].mT}

    (line,) = verify(cases("mlstm.step", "float64"), port).diagnosis
    assert "final.m" in line
    assert "the same memory" not in line


RISING = np.arange(18.0).reshape(3, 6)
RANDOM = np.random.default_rng(0).random((2, 3, 6))


@pytest.mark.parametrize(
    ("got", "expected", "how"),
    [
        (np.where(RISING % 2, 1e308, 1.0), np.full_like(RISING, 5e-324), ""),
        (1e-10 * RANDOM[0], 1e-10 * RANDOM[1], ""),
        (1 + 2e-5 * RISING[::-1], 1 + 2e-5 * RISING, ""),
        (1 + RISING[::-1], 1 + RISING, ": the expected numbers in another order"),
    ],
    ids=["overflow", "small", "rounded", "in another order"],
)
def test_what_is_wrong_with_numbers(got: Array, expected: Array, how: str) -> None:
    case = cases("gru.step", "float64")[0]
    wrong = Difference(case, {"y": got}, {"y": expected}, {"y": np.ones(got.shape, bool)})
    assert error(wrong, "y").endswith(f"18 of 18 entries{how}")


@pytest.mark.parametrize("dtype", ["float64", None])
def test_gradients_that_are_summed_over_calls_are_recognised(dtype: str | None) -> None:
    sums: dict[Any, Any] = {}

    def port(case: Case) -> Arrays:
        found = case.results()
        for name in [name for name in found if name.startswith("grads.")]:
            key = name, found[name].shape, case.dtype
            sums[key] = found[name] = found[name] + sums.get(key, 0)
        return found

    (line,) = verify(cases("gru.step", dtype), port).diagnosis
    assert "set them to 0 before each backward" in line


def test_a_line_that_a_mistake_has_changed_is_not_changed_again() -> None:
    clamped = mistake("normaliser-clamped", "slstm.step")
    changes = Changes((sLSTMCell,), (clamped,))
    assert changes.all
    assert not [change for change in changes.all if "np.maximum(f * n_prev" in change.old]


def test_an_option_that_only_failed_cases_have() -> None:
    def port(case: Case) -> Arrays:
        found = case.results()
        counted = (case.inputs["targets"] != case.options.get("ignore_index")).mean()
        return {name: array * array.dtype.type(counted) for name, array in found.items()}

    forward, backward = verify(cases("layer.cross-entropy"), port).diagnosis
    assert forward.startswith("layer.cross-entropy: y is that of a loss")
    assert "(loss-averaged-over-all)" in forward
    assert backward == "layer.cross-entropy: dx is the correct gradient of this wrong forward"


def test_the_forward_is_called_right_only_if_it_is() -> None:
    def not_compared(case: Case) -> dict[str, Any]:
        return {**case.results(), "y": "a text", "dx": 1.7 * case.expected["dx"]}

    text = "\n".join(verify(cases("layer.linear", "float64"), not_compared).diagnosis)
    assert "\n    dx is wrong" in text

    def negated(case: Case) -> Arrays:
        return {n: -1.7 * a if n.startswith("grads.") else a for n, a in case.results().items()}

    text = "\n".join(verify(cases("layer.linear", "float64"), negated).diagnosis)
    assert "the forward is right; in the backward, " in text


def test_mistakes_that_are_found_are_tried_beyond_the_budget() -> None:
    bug = mistake("update-gate-reversed", "gru.step")
    failed = [(case, results(case, bug)) for case in cases("gru", "float64")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("numpy_xlstm.conformance.diagnosis.RUNS", 30)
        first, *others = searches(failed)
    assert len(others) == 2
    assert first.made == others[0].made == others[1].made == (bug,)


def test_edge_cases_do_not_hide_a_mistake_of_the_ordinary_ones() -> None:
    """A port that begins with m = 0 and splits ties, with one mistake in its forward."""
    names = ["normaliser-clamped", "no-state-with-m-0", "tie-in-halves"]
    bugs = [mistake(name, "slstm.step") for name in names]
    report = verify(cases("slstm.step", "float64"), lambda case: results(case, *bugs))
    first, *others = report.diagnosis
    assert "(normaliser-clamped)" in first
    text = "\n".join(others)
    assert "--expect-fail tie" in text
    assert "(no-state-with-m-0)" in text
    assert "(tie-in-halves)" in text


def test_harmless_edge_cases_are_said_to_be_that() -> None:
    halves = mistake("tie-in-halves", "slstm.step")
    chosen = cases("slstm.step", "float64")
    *_, line = verify(chosen, lambda case: results(case, halves)).diagnosis
    assert "1 of 1 failed cases is an edge case" in line
    assert "tie: two numbers are exactly equal" in line
    assert verify(chosen, lambda case: results(case, halves), expect_fail=["tie"]).passed


@pytest.mark.parametrize(
    ("raising", "count"),
    [("near-tie", "2 of 2 failed cases are"), ("kink", "1 of 1 failed cases is")],
)
def test_edge_cases_without_results_are_counted(raising: str, count: str) -> None:
    """No slstm.step has a kink."""
    halves = mistake("tie-in-halves", "slstm.step")

    def port(case: Case) -> Arrays:
        if raising in case.flags:
            raise ValueError("refused")
        return results(case, halves)

    *_, line = verify(cases("slstm.step", "float64"), port).diagnosis
    assert f"{count} " in line
    assert ("--expect-fail near-tie" in line) == (raising == "near-tie")


@pytest.mark.parametrize(
    ("subject", "name", "said"),
    [
        ("lstm.step", "iofz", "the port, but not its input, had the order of ONNX"),
        ("lstm.step", "izof", "the input, but not the port, had the order of ONNX"),
        ("peephole.step", "iof", "the port or its input, but not both, had the order of ONNX"),
    ],
)
def test_another_order_may_be_that_of_the_input(subject: str, name: str, said: str) -> None:
    bug = mistake(f"gates-in-order-{name}", subject)
    report = verify(cases(subject, "float64"), lambda case: results(case, bug))
    assert said in "\n".join(report.diagnosis)


def test_a_case_without_results_has_failed_too() -> None:
    """The port is off where gates are closed, and raises without a state."""

    def port(case: Case) -> Arrays:
        if "state.h" not in case.inputs:
            raise ValueError("no state")
        return {n: a + ("closed-gates" in case.flags) for n, a in case.expected.items()}

    text = "\n".join(verify(cases("lstm.step", "float64"), port).diagnosis)
    assert "closed-gates.float64" in text
    assert "fails in every case with the flag closed-gates" not in text


def test_a_right_forward_is_not_called_that_of_changed_lines() -> None:
    """The backward takes σ(f̃) for o: two changed lines, one of which makes h right again."""
    forward = "- o = sigmoid(o_pre)\n+ o = sigmoid(f_pre)\n- h = o * (c / n)\n"
    bug = Bug("", (), (sLSTMCell,), forward + "+ h = sigmoid(o_pre) * (c / n)", "")
    report = verify(cases("slstm.step", "float64"), lambda case: results(case, bug))
    text = "\n".join(report.diagnosis)
    assert "+ o = sigmoid(f_pre)" in text
    assert not re.search(r"\by\b|final\.h", text)


def test_gradients_that_are_wrong_for_a_wrong_forward_are_not_called_right() -> None:
    bug = mistake("normaliser-clamped", "slstm.step")

    def port(case: Case) -> Arrays:
        return {n: 1.7 * a if n == "dx" else a for n, a in results(case, bug).items()}

    text = "\n".join(verify(cases("slstm.step", "float64")[:2], port).diagnosis)
    (line,) = [line for line in text.splitlines() if "of this wrong forward" in line] or [""]
    assert "dx" not in line
    assert "dx is not explained in" in text
    assert "the forward is right" not in text


@pytest.mark.parametrize(
    "subject",
    [
        *("slstm.step", "layer.silu", "elman.stack", "layer.cross-entropy"),
        *("block.slstm", "mlstm.step"),
    ],
)
def test_an_entry_that_is_off_by_a_few_bounds_names_no_mistake(subject: str, trials: int) -> None:
    """A change without effect, such as x + y → y + x, explains nothing."""
    rng = np.random.default_rng(len(subject))
    for _ in range(trials):
        case = cases(subject)[rng.integers(min(24, len(cases(subject))))]
        off = {name: array.copy() for name, array in case.expected.items()}
        name = str(rng.choice([n for n, array in off.items() if np.isfinite(array).any()]))
        at = rng.choice(np.flatnonzero(np.isfinite(off[name])))
        off[name].flat[at] += rng.uniform(1.2, 5) * case.bounds[name].flat[at]
        text = "".join(diagnose([(case, off)]))
        assert "no known mistake gives these numbers\n" in text
        assert "digits" not in text


def scaled(names: str, factor: Any, when: str = "") -> Callable[[Case], Arrays]:
    """Return a port with some results multiplied by a factor, in cases with a tag."""

    def port(case: Case) -> Arrays:
        off = names.split() if when in ("", *case.tags) else []
        return {n: a * (factor if n in off else 1) for n, a in case.expected.items()}

    return port


@pytest.mark.parametrize(
    ("subject", "port", "sentence"),
    [
        (
            "slstm.sequence",
            scaled("y", 1.5, "forget_gate=exp"),
            "among the cases with steps, it fails in every case with forget_gate = exp, and in no",
        ),
        (
            "elman.sequence",
            scaled("y", 1.5),
            "passes in every case with the flag no-step, and in no",
        ),
        ("lstm.step", scaled("grads.R", 0.0), "R is not read: its gradient is exactly 0"),
    ],
)
def test_where_a_port_is_wrong(subject: str, port: Any, sentence: str) -> None:
    chosen = [c for c in cases(subject, "float64") if {*c.flags} <= {"no-step", "one-row"}]
    assert sentence in "\n".join(verify(chosen, port).diagnosis)


def test_no_line_of_the_backward_is_shown_for_a_forward_of_zeros() -> None:
    def port(case: Case) -> Arrays:
        """A port in float32 whose tanh is 0 near 0, with gradients that are wrong, too."""
        factors = {"y": 0.0, "final.h": 0.0} if "closed-gates" in case.flags else {}
        grads = dict.fromkeys(("grads.W", "grads.R", "grads.b", "dx", "dstate0.h"), 1.001)
        factors |= grads if factors else {}
        return {n: a * np.float32(factors.get(n, 1)) for n, a in case.expected.items()}

    text = "\n".join(verify(cases("lstm.step", "float32"), port).diagnosis)
    assert "y, final.h are those of a cell with tanh(x) as 2 σ(2x) − 1" in text
    assert "dh_next" not in text


@pytest.mark.parametrize("y", [3.0, None])
def test_a_tie_is_not_excused_while_an_ordinary_case_is_wrong(y: float | None) -> None:
    halves = mistake("tie-in-halves", "slstm.step")

    def port(case: Case) -> dict[str, Any]:
        found = dict(results(case, halves))
        if case.id == "slstm.step.exp.ordinary.float64":
            found["y"] = found["y"] + case.bounds["y"] * y if y else found["y"][:1]
        return found

    text = "\n".join(verify(cases("slstm.step", "float64"), port).diagnosis)
    assert "excuses" not in text


def rounded_products(case: Case) -> Arrays:
    """A port in TF32: inputs of products have ten bits of mantissa."""
    if case.dtype == "float64":
        return dict(case.expected)
    cut = {
        name: (array.view(np.int32) & ~0x1FFF).view(np.float32)
        if name in ("x", "params.W")
        else array
        for name, array in case.inputs.items()
    }
    return case.subject.run(case.options, cut)


def clipped(order: float) -> Callable[[Case], Arrays]:
    """Return a port with gradients clipped by their norm or, if it is infinite, each by value."""

    def port(case: Case) -> Arrays:
        grads = {n: a for n, a in case.expected.items() if n.startswith("grads.")}
        size = np.linalg.norm(np.concatenate([a.ravel() for a in grads.values()]))
        by_norm = {n: a * min(1, 0.1 / size) for n, a in grads.items()}
        by_value = {n: np.clip(a, -0.1, 0.1) for n, a in grads.items()}
        return dict(case.expected) | (by_norm if order == 2 else by_value)

    return port


@pytest.mark.parametrize(
    ("port", "dtype", "sentence"),
    [
        (rounded_products, None, "right to only about three digits"),
        (clipped(2), "float64", "(norm-of-the-gradients-of-parameters-at-most-0.1)"),
        (clipped(np.inf), "float64", "(the-gradients-of-parameters-clipped-to-0.1)"),
    ],
)
def test_causes_without_a_line_are_named(port: Any, dtype: str | None, sentence: str) -> None:
    (line,) = verify(cases("lstm.step", dtype), port).diagnosis
    assert sentence in line


def in_first_row(array: Array) -> Array:
    return np.where(np.arange(len(array))[:, None] == 0, array.sum(axis=0), 0)


@pytest.mark.parametrize(
    ("subject", "wrong", "name"),
    [
        (
            "slstm.step",
            lambda r: {"final.c": r["final.n"], "final.n": r["final.c"]},
            "final.c-and-n-exchanged",
        ),
        (
            "mlstm.step",
            lambda r: {"grads.W_k": r["grads.W_k"] * r["final.C"].shape[2] ** 0.5},
            "grads.W_k-multiplied-by-root-of-DK",
        ),
        ("lstm.step", lambda r: {"final.h": r["final.c"]}, "final.c-for-final.h"),
        (
            "gru.step",
            lambda r: {"grads.b": r["grads.b_h"], "grads.b_h": r["grads.b"]},
            "grads.b-and-b_h-exchanged",
        ),
        ("gru.step", lambda r: {"dx": in_first_row(r["dx"])}, "dx-sum-in-first-row"),
        (
            "lstm.step",
            lambda r: {"grads.b": r["grads.b"].reshape(4, -1)[[0, 2, 1, 3]].ravel()},
            "grads.b-gates-f-and-z-exchanged",
        ),
    ],
)
def test_results_in_another_place_are_named(subject: str, wrong: Any, name: str) -> None:
    flags = {"one-row", "one-head", "square-memory"}  # the root of DK is not 2 in all of these
    chosen = [case for case in cases(subject, "float64") if {*case.flags} <= flags]
    report = verify(chosen, lambda case: case.results() | wrong(case.results()))
    assert f"({name})" in report.diagnosis[0]


def test_the_lines_on_which_wrong_results_depend_are_shown() -> None:
    change = "den = maximum(modulus(qn), np.exp(-clip(m))) * 1.001 + self.eps"
    _, _, text = said("mlstm.step", mLSTMCell, change).partition("and no right one:")
    lines, _, rest = text.partition("\n    in ")
    assert "den = maximum(" in lines
    assert "h_tilde = s / den" in lines
    assert rest
    assert "C = f[" not in lines
    assert "return" not in lines
    change = "di = 1.001 * dc * z + dn"
    _, _, text = said("slstm.step", sLSTMCell, change, {"one-row"}).partition("and no right one:")
    assert "di = dc * z + dn" in text
    assert "df = " not in text


def test_a_forward_alone_may_be_that_of_a_mistake_at_the_interface() -> None:
    """The backward of this port is that of the right forward."""
    bug = mistake("heads-of-o-interleaved", "mlstm.step")

    def port(case: Case) -> Arrays:
        return {**case.results(), "y": results(case, bug)["y"]}

    chosen = [c for c in cases("mlstm.step", "float64") if "one-head" not in c.flags][:4]
    (sentence,) = verify(chosen, port).diagnosis
    assert sentence.startswith("mlstm.step: y is that of")
    assert f"({bug.name})" in sentence


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("own-step-masked-in-one-chunk", ""),
        pytest.param("one-line", "- scores *= W\n+ scores *= -W", marks=pytest.mark.long),
    ],
)
def test_a_mistake_in_chunks_of_another_size_is_found(name: str, change: str) -> None:
    listed = mistake("own-step-masked-in-one-chunk", "mlstm.chunkwise")
    bug = listed._replace(change=change) if change else listed
    few = [case for case in cases("mlstm.chunkwise", "float64") if not case.flags][:2]
    (found,) = diagnosed([(case, results(case, bug)) for case in few])
    assert found.name == name
    assert found.around is listed.around


def test_mistakes_in_one_part_of_a_state_or_one_gradient_are_named() -> None:
    few = [case for case in cases("gru.sequence", "float64") if {*case.flags} <= {"padding"}]
    bugs = [bug for bug in known(few[0]) if "unroll" in str(bug.code) and bug not in BUGS]
    assert len(bugs) > 20
    for bug in bugs[::14]:
        failed = [(case, results(case, bug)) for case in few]
        named = diagnosed([(c, got) for c, got in failed if differing(got, (c.expected, c.bounds))])
        again = results(few[0], *named)
        assert named
        assert all(np.allclose(again[n], a) for n, a in failed[0][1].items())


def test_a_forward_is_named_although_the_backward_has_a_mistake_of_its_own() -> None:
    """Where gates are closed the forward is right, and the slope of σ in the backward is not."""
    hard = """r, z, u = (np.clip(0.2 * a + 0.5, 0, 1) for a in (r_pre, z_pre, -z_pre))
        dz_pre = dh * (h_prev - n) * z * u
        dr_pre = dn_pre * s_n * r * (1 - r)"""
    bug = Bug("mine", (), (GRUCell,), hard, "")
    chosen = [c for c in cases("gru.step") if not c.flags or "closed-gates" in c.flags]
    text = "\n".join(verify(chosen, lambda case: results(case, bug)).diagnosis)
    assert "(hard-sigmoid)" in text
    assert "grads.W" in text.partition("not explained")[0].rpartition("cases; ")[2]


def by_row(case: Case) -> Arrays:
    """Run each row alone, on its last steps, with numbers only where it has steps."""
    options, x = case.options, case.inputs["x"]
    y, dx, rest = np.zeros_like(case.expected["y"]), np.zeros_like(x), []
    for row, steps in enumerate(case.inputs.get("lengths", [x.shape[1]] * len(x))):
        own = {n: a if n.startswith("params") else a[row : row + 1] for n, a in case.inputs.items()}
        own |= {n: own[n][:, x.shape[1] - steps :] for n in ("x", "dy")}
        own.pop("lengths", None)
        found = case.subject.run(options, own)
        y[row, x.shape[1] - steps :], dx[row, x.shape[1] - steps :] = found["y"][0], found["dx"][0]
        rest.append(found)
    whole = {"y": y, "dx": dx}
    for name in case.expected.keys() - whole.keys():
        parts = [found[name] for found in rest]
        whole[name] = (np.add.reduce if name.startswith("grads.") else np.concatenate)(parts)
    return whole


def columns(case: Case) -> Arrays:
    """Read R as if it were stored transposed."""
    R = case.inputs["params.R"]
    found = dict(
        case.subject.run(case.options, case.inputs | {"params.R": R.reshape(R.shape[::-1]).T})
    )
    return found | {"grads.R": found["grads.R"].T.reshape(R.shape)}


def interleaved(case: Case) -> Arrays:
    """Return entry v of head n as entry v · NH + n, with the output gate of that place."""
    NH, H = case.options["num_heads"], case.options["hidden_size"]
    at = [v * NH + n for n in range(NH) for v in range(H // NH)]
    names = {"dy": -1, "params.W_o": 0, "params.b_o": 0}
    moved = {n: np.take(case.inputs[n], at, axis) for n, axis in names.items()}
    found = dict(case.subject.run(case.options, case.inputs | moved))
    for name, axis in {"y": -1, "grads.W_o": 0, "grads.b_o": 0}.items():
        found[name] = np.take(found[name], np.argsort(at), axis)
    return found


@pytest.mark.parametrize(
    ("subject", "port", "name"),
    [
        ("gru.sequence", by_row, "padding-first"),
        ("lstm.step", columns, "R-read-by-columns"),
        ("mlstm.step", interleaved, "heads-of-output-interleaved"),
    ],
)
def test_a_port_with_another_layout_is_named(
    subject: str, port: Callable[[Case], Arrays], name: str
) -> None:
    chosen = [case for case in cases(subject, "float64") if {*case.flags} <= {"padding"}]
    (sentence,) = verify(chosen, port).diagnosis
    assert f"({name})" in sentence
