"""Known mistakes: what ports get wrong, each as a short change of the specification."""

from numpy_xlstm.conformance.bugs import chunkwise, gated, gru, mlstm, sequence, slstm
from numpy_xlstm.conformance.bugs.bug import Bug, planted, results

BUGS = [*gated.BUGS, *gru.BUGS, *slstm.BUGS, *mlstm.BUGS, *chunkwise.BUGS, *sequence.BUGS]
"""All of them."""

__all__ = ["BUGS", "Bug", "planted", "results"]
