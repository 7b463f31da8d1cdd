"""All suites, with their names in the table."""

from functools import partial

from tests.parity.outside.flash import flash_cases
from tests.parity.outside.nodes import evaluator_cases, node_cases
from tests.parity.outside.runtime import runtime_cases
from tests.parity.outside.suite import Case, Outcome, Suite
from tests.parity.outside.transformers_model import model_cases


def sample_cases(kind: str) -> dict[str, Case]:
    """PyTorch's module samples; each case also has its own test."""
    from tests.parity import test_torch_samples as samples  # skips without the samples

    numbers = range(len(samples.draw(kind)))
    return {f"{kind}-{n}": partial(samples.error_of_sample, kind, n) for n in numbers}


SUITES = {
    **{
        f"PyTorch, module samples, {kind}, float64": Suite(1e-12, partial(sample_cases, kind))
        for kind in ("LSTM", "GRU", "RNN")
    },
    **{
        f"`onnx`, node tests, {kind}": Suite(1e-6, partial(node_cases, kind))
        for kind in ("LSTM", "GRU", "RNN")
    },
    **{
        f"`onnx`, their evaluator, {kind}, float64": Suite(
            1e-13, partial(evaluator_cases, kind, 30)
        )
        for kind in ("LSTM", "GRU", "RNN")
    },
    **{
        f"ONNX Runtime, {kind}, float32": Suite(2e-6, partial(runtime_cases, kind, 60))
        for kind in ("LSTM", "GRU", "RNN")
    },
    "transformers, xLSTM, float64": Suite(1e-11, partial(model_cases, "float64")),
    "transformers, xLSTM, float32": Suite(1e-5, partial(model_cases, "float32")),
    "FlashRNN, vanilla, float64": Suite(1e-12, flash_cases),
}


def row(name: str, outcome: Outcome) -> str:
    """A line of the table."""
    counts = f"{outcome.cases} | {outcome.run} | {outcome.passed}"
    error = rounded_up(outcome.error, SUITES[name].tolerance) if outcome.run else "–"
    return f"| {name} | {counts} | {error} | {'; '.join(sorted(outcome.not_here))} |"


def rounded_up(error: float, tolerance: float) -> str:
    """Return twice the error, rounded up to 1, 2 or 5 times a power of ten.

    The factor allows for other rounding on other machines. Errors below the rounding of the dtype
    are replaced by it.
    """
    floor = 1e-15 if tolerance < 1e-9 else 1e-6
    steps = (digit * 10.0**power for power in range(-16, 0) for digit in (1, 2, 5))
    return f"{min(next(s for s in steps if s >= max(2 * error, floor)), tolerance):.0e}"
