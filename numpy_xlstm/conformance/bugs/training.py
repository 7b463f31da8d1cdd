"""Known mistakes in AdamW, in clipping, and in the schedule of the learning rate."""

from numpy_xlstm.conformance.bugs.bug import Bug
from numpy_xlstm.kernels.adamw import updated
from numpy_xlstm.training import AdamW, clip_grad_norm, clipping, warmup_cosine


def adamw(name: str, change: str, description: str) -> Bug:
    """A mistake in AdamW."""
    places = AdamW, updated
    return Bug(name, ("training.adamw",), places, change, description)


BUGS = [
    adamw(
        "adam-counts-from-0",
        """
        - rate, root = lr / (1 - beta1 ** (self.t + 1)), (1 - beta2 ** (self.t + 1)) ** 0.5
        + t = max(self.t, 1)
        + rate, root = lr / (1 - beta1**t), (1 - beta2**t) ** 0.5
        """,
        "an AdamW whose t is one too small in the corrections of the moments",
    ),
    adamw(
        "adam-counts-from-2",
        """
        - rate, root = lr / (1 - beta1 ** (self.t + 1)), (1 - beta2 ** (self.t + 1)) ** 0.5
        + rate, root = lr / (1 - beta1 ** (self.t + 2)), (1 - beta2 ** (self.t + 2)) ** 0.5
        """,
        "an AdamW whose t is one too large in the corrections of the moments",
    ),
    adamw(
        "adam-not-corrected",
        """
        - rate, root = lr / (1 - beta1 ** (self.t + 1)), (1 - beta2 ** (self.t + 1)) ** 0.5
        + rate, root = lr, 1.0
        """,
        "an AdamW that does not correct the moments",
    ),
    adamw(
        "adam-second-moment-not-corrected",
        """
        - rate, root = lr / (1 - beta1 ** (self.t + 1)), (1 - beta2 ** (self.t + 1)) ** 0.5
        + rate, root = lr / (1 - beta1 ** (self.t + 1)), 1.0
        """,
        "an AdamW that corrects the first moment alone",
    ),
    adamw(
        "adam-decay-in-the-moments",
        """
        - shrink = 1 - lr * self.weight_decay if self.decays(name, array) else 1.0
        + shrink, decay = 1.0, self.weight_decay * self.decays(name, array)
        + decayed = grads[name] + decay * array
        - for p, g, m, v in _cut(size, array, grads[name], self.m[name], self.v[name]):
        + for p, g, m, v in _cut(size, array, decayed, self.m[name], self.v[name]):
        """,
        "an Adam whose decay is added to the gradient, and so to the moments, as torch.optim.Adam "
        "does",
    ),
    adamw(
        "adam-decay-after-the-step",
        """
        - p *= shrink

        - p -= step
        + p -= step
        + p *= shrink
        """,
        "an AdamW whose parameters decay after the step, not before it",
    ),
    adamw(
        "adam-decay-without-rate",
        """
        - shrink = 1 - lr * self.weight_decay if self.decays(name, array) else 1.0
        + shrink = 1 - self.weight_decay if self.decays(name, array) else 1.0
        """,
        "an AdamW whose decay is not multiplied by the learning rate",
    ),
    adamw(
        "adam-decay-of-everything",
        """
        - shrink = 1 - lr * self.weight_decay if self.decays(name, array) else 1.0
        + shrink = 1 - lr * self.weight_decay
        """,
        "an AdamW of which vectors decay too",
    ),
    adamw(
        "adam-no-decay",
        """
        - shrink = 1 - lr * self.weight_decay if self.decays(name, array) else 1.0
        + shrink = 1.0
        """,
        "an Adam without decay",
    ),
    adamw(
        "adam-eps-in-the-root",
        """
        - step = rate * (m / (np.sqrt(v) / root + eps))
        + step = rate * (m / np.sqrt(v / root**2 + eps))
        """,
        "an AdamW that adds eps to the second moment, not to its root",
    ),
    adamw(
        "adam-eps-before-correction",
        """
        - step = rate * (m / (np.sqrt(v) / root + eps))
        + step = rate * root * (m / (np.sqrt(v) + eps))
        """,
        "an AdamW that adds eps to the root of the second moment before that is corrected, as "
        "TensorFlow does",
    ),
    adamw(
        "adam-betas-swapped",
        """
        - beta1, beta2 = self.betas
        + beta2, beta1 = self.betas
        """,
        "an AdamW whose β₁ and β₂ have changed places",
    ),
    adamw(
        "adam-second-moment-of-new-first",
        """
        - v += rest2 * (g * g)
        + v += rest2 * (m * m)
        """,
        "an AdamW whose second moment is that of the first moment, not of the gradient",
    ),
    Bug(
        "clipped-one-by-one",
        ("training.clipping",),
        (clip_grad_norm,),
        """
        - return (dict(grads) if factor == 1 else scaled(grads, factor)), norm
        + factors = {n: clip_factor({n: g}, max_norm)[0] for n, g in grads.items()}
        + return {n: g * g.dtype.type(factors[n]) for n, g in grads.items()}, norm
        """,
        "a clipping of each gradient by its own norm, not by that of all",
        flags=("max_norm=1.5",),
    ),
    Bug(
        "clipped-always",
        ("training.clipping",),
        (clipping.clip_factor,),
        """
        - return min(1.0, max_norm / (norm + CLIP_EPS)), norm
        + return max_norm / (norm + CLIP_EPS), norm
        """,
        "a clipping that scales up what is below the norm",
        flags=("max_norm=64.0",),
    ),
    Bug(
        "clipped-by-value",
        ("training.clipping",),
        (clip_grad_norm,),
        """
        - return (dict(grads) if factor == 1 else scaled(grads, factor)), norm
        + return {n: np.clip(g, -max_norm, max_norm) for n, g in grads.items()}, norm
        """,
        "a clipping of each entry, not of the norm",
        flags=("max_norm=1.5",),
    ),
    Bug(
        "norm-squared",
        ("training.clipping",),
        (clipping.global_norm,),
        """
        - return math.hypot(*norms)
        + return math.hypot(*norms) ** 2
        """,
        "a clipping by the sum of squares, not by its root",
    ),
    Bug(
        "norms-summed",
        ("training.clipping",),
        (clipping.global_norm,),
        """
        - return math.hypot(*norms)
        + return math.fsum(norms)
        """,
        "a clipping by the sum of the norms of the gradients, not by the norm of all of them",
    ),
    Bug(
        "schedule-over-everything",
        ("training.schedule",),
        (warmup_cosine,),
        """
        - fall = (min(progress, 1.0) - warmup) / (1 - warmup)
        + fall = min(progress, 1.0)
        """,
        "a schedule whose cosine begins at the first step, not after the warm-up",
    ),
    Bug(
        "schedule-falls-to-0",
        ("training.schedule",),
        (warmup_cosine,),
        """
        - return final + (1 - final) * (1 + math.cos(math.pi * fall)) / 2
        + return (1 + math.cos(math.pi * fall)) / 2
        """,
        "a schedule that falls to 0, not to the final factor",
    ),
    Bug(
        "schedule-linear",
        ("training.schedule",),
        (warmup_cosine,),
        """
        - return final + (1 - final) * (1 + math.cos(math.pi * fall)) / 2
        + return final + (1 - final) * (1 - fall)
        """,
        "a schedule that falls linearly",
    ),
    Bug(
        "schedule-whole-cosine",
        ("training.schedule",),
        (warmup_cosine,),
        """
        - return final + (1 - final) * (1 + math.cos(math.pi * fall)) / 2
        + return final + (1 - final) * (1 + math.cos(2 * math.pi * fall)) / 2
        """,
        "a schedule that falls and rises again along a whole cosine",
    ),
]
