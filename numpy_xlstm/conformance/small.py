"""The small set in the package: every kind of subject and every flag, in less than 1 MB."""

from pathlib import Path

from numpy_xlstm.conformance.case import Case, cases

SMALL = Path(__file__).parent / "small"

IDS = [
    "lstm.step.ordinary.float64",
    "lstm.sequence.ordinary.float32",
    "lstm.sequence.lengths.float64",
    "lstm.sequence.closed-gates.float32",
    "lstm.stack.lengths.float32",
    "slstm.step.sigmoid.ordinary.float64",
    "slstm.sequence.sigmoid.ordinary.float32",
    "slstm.sequence.sigmoid.empty-row-beside-live.float32",
    "slstm.sequence.sigmoid.lengths.float64",
    "slstm.sequence.sigmoid.zero-state.float64",
    "slstm.sequence.sigmoid.zero-memory.float32",
    "slstm.sequence.sigmoid.one-row.float32",
    "slstm.sequence.exp.large.float32",
    "slstm.sequence.sigmoid.far-memory.float32",
    "slstm.sequence.exp.tie.float64",
    "slstm.sequence.exp.one-head.float32",
    "mlstm.step.sigmoid.ordinary.float64",
    "mlstm.sequence.sigmoid.ordinary.float32",
    "mlstm.recurrent.sigmoid.empty-row-beside-live.float32",
    "mlstm.recurrent.sigmoid.eps-large.float32",
    "mlstm.recurrent.sigmoid.large.float32",
    "mlstm.recurrent.sigmoid.square-memory.float32",
    "mlstm.recurrent.exp.tie.float32",
    "mlstm.recurrent.exp.near-tie.float32",
    "mlstm.recurrent.exp.no-step.float64",
    "mlstm.parallel.sigmoid.kink.float32",
    "mlstm.parallel.sigmoid.one-step.float64",
    "mlstm.chunkwise.sigmoid.above-a-chunk.float64",
    "mlstm.chunkwise.sigmoid.reset.float32",
    "mlstm.chunkwise.sigmoid.lengths.float32",
    "mlstmsig.recurrent.sigmoid.ordinary.float32",
    "gru.sequence.ordinary.float32",
    "original-gru.sequence.ordinary.float32",
    "elman.sequence.tanh.ordinary.float32",
    "peephole.sequence.ordinary.float32",
    "lstmp.sequence.ordinary.float32",
    "layer.layer-norm.ordinary.float32",
    "layer.causal-conv1d.ordinary.float32",
    "layer.gated-feed-forward.swish.ordinary.float32",
    "layer.cross-entropy.ordinary.float32",
    "layer.cross-entropy.ignored.float32",
    "layer.rms-norm.ordinary.float32",
    "block.mlstm.ordinary.float32",
    "block.slstm.no-state.float32",
    "model.xlstm.untied.ordinary.float32",
    "model.xlstm-large.single.ordinary.float32",
    "training.adamw.ordinary.float32",
    "training.clipping.clipped.ordinary.float32",
]


def small_cases() -> list[Case]:
    """Generate the cases of the small set."""
    every = {case.id: case for case in cases()}
    return [every[name] for name in IDS]
