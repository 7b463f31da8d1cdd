"""Known mistakes: what ports get wrong, each as a short change of the specification."""

from numpy_xlstm.conformance.bugs import (
    chunkwise,
    gated,
    gru,
    layers,
    mlstm,
    mlstm_backward,
    sequence,
    slstm,
    training,
)
from numpy_xlstm.conformance.bugs.bug import Bug, planted, results

MODULES = gated, gru, slstm, mlstm, mlstm_backward, chunkwise, sequence, layers, training
BUGS = [bug for module in MODULES for bug in module.BUGS]
"""All of them."""

__all__ = ["BUGS", "Bug", "planted", "results"]
