"""Known mistakes in what stands around the cells: norms, convolution, blocks, loss."""

from numpy_xlstm import layers, models
from numpy_xlstm.conformance.bugs.bug import Bug
from numpy_xlstm.kernels.norms import normalise, normalise_backward
from numpy_xlstm.layers import conv, norms
from numpy_xlstm.layers.activations import gelu_backward
from numpy_xlstm.layers.soft_cap import apply_cap, soft_cap_backward
from numpy_xlstm.models.blocks import ResidualBlock
from numpy_xlstm.models.large_block import xLSTMLargeLayer
from numpy_xlstm.models.mlstm_layer import mLSTMLayer
from numpy_xlstm.models.slstm_layer import sLSTMLayer

LAYER_NORMS = "layer.layer-norm", "layer.multi-head-layer-norm"
NORMS = *LAYER_NORMS, "layer.rms-norm", "layer.multi-head-rms-norm"
NORM = normalise, normalise_backward
LOSS = layers.softmax_cross_entropy, layers.softmax_cross_entropy_backward

BUGS = [
    Bug(
        "norm-eps-outside-the-root",
        NORMS,
        NORM,
        """
        - scale = np.sqrt(width / (dot(x, x) + width * eps))
        + scale = 1 / (np.sqrt(dot(x, x) / width) + eps)
        """,
        "a norm that adds eps to the deviation, not to the variance",
    ),
    Bug(
        "norm-variance-unbiased",
        LAYER_NORMS,
        NORM,
        """
        - scale = np.sqrt(width / (dot(x, x) + width * eps))
        + scale = np.sqrt((width - 1) / (dot(x, x) + (width - 1) * eps))
        - dx = dy - normed * (dot(dy, normed) / width)
        + dx = dy - normed * (dot(dy, normed) / (width - 1))
        """,
        "a norm whose variance is divided by D − 1, not by D",
    ),
    Bug(
        "norm-not-centred",
        LAYER_NORMS,
        NORM,
        """
        - if centred:
        + if False:
        - dx = dx - dy.mean(axis=-1, keepdims=True) if centred else dx
        """,
        "an RMS norm for a layer norm: the mean is not subtracted",
    ),
    Bug(
        "norm-statistics-constant",
        NORMS,
        NORM,
        """
        - dx = dy - normed * (dot(dy, normed) / width)
        + dx = dy
        - dx = dx - dy.mean(axis=-1, keepdims=True) if centred else dx
        """,
        "a backward that takes the mean and the variance for constants",
    ),
    Bug(
        "norm-weight-read-as-factor",
        LAYER_NORMS,
        (norms.Norm,),
        """
        - if gain is not None and self.residual_weight:
        + if False:
        """,
        "a norm that multiplies by the weight, which is stored as the distance from 1: by w, not "
        "1 + w",
    ),
    Bug(
        "norm-over-all-heads",
        ("layer.multi-head-layer-norm", "layer.multi-head-rms-norm"),
        (norms.Norm,),
        """
        - normed, scale = normalise(x.reshape(-1, self.head_dim), self.eps, self.centred)
        + normed, scale = normalise(x.reshape(-1, x.shape[-1]), self.eps, self.centred)
        - by_head = (-1, self.head_dim)
        + by_head = (-1, self.num_heads * self.head_dim)
        """,
        "a norm over the whole width, not over each head",
    ),
    Bug(
        "kernel-reversed",
        ("layer.causal-conv1d",),
        (conv.CausalConv1d,),
        """
        - return self._arrays["conv.weight"][:, 0].T.copy()
        + return self._arrays["conv.weight"][:, 0, ::-1].T.copy()
        - dtaps = np.einsum("btd,btdk->dk", dy, windows(cache.padded, past + 1))
        + dtaps = np.einsum("btd,btdk->dk", dy, windows(cache.padded, past + 1))[:, ::-1]
        """,
        "a convolution that reads its kernel backwards: the first entry is for the present",
    ),
    Bug(
        "convolution-state-ignored",
        ("layer.causal-conv1d",),
        (conv.CausalConv1d,),
        """
        - padded = np.concatenate((state, x), axis=1)
        + padded = np.concatenate((0 * state, x), axis=1)
        - return dpadded[:, past:], dpadded[:, :past], grads
        + return dpadded[:, past:], 0 * dpadded[:, :past], grads
        """,
        "a convolution that begins with zeros, whatever state it is given",
    ),
    Bug(
        "cotangent-of-convolution-state-dropped",
        ("layer.causal-conv1d",),
        (conv.CausalConv1d,),
        """
        - dpadded[:, T:] += dstate
        """,
        "a backward that takes no cotangent on the final state of the convolution",
    ),
    Bug(
        "gelu-by-tanh",
        ("layer.gelu",),
        (layers.gelu, gelu_backward),
        """
        - distribution = ndtr(x)
        + u = np.sqrt(2 / np.pi).astype(x.dtype) * (x + 0.044715 * x**3)
        + distribution = (1 + np.tanh(u)) / 2
        """,
        "a GELU by its approximation with tanh, where the exact one is asked for",
    ),
    Bug(
        "cap-slope-missing",
        ("layer.soft-cap",),
        (apply_cap, soft_cap_backward),
        """
        - return dy if cap is None else dy * tanh_slope(x / cap)
        + return dy
        """,
        "a backward of the soft cap that passes its cotangent on as it is",
    ),
    Bug(
        "cap-not-undone",
        ("layer.soft-cap",),
        (apply_cap, soft_cap_backward),
        """
        - y = x if cap is None else cap * np.tanh(x / cap)
        + y = np.tanh(x / cap)
        - return dy if cap is None else dy * tanh_slope(x / cap)
        + return dy * tanh_slope(x / cap) / cap
        """,
        "a soft cap of tanh(x / a), without the factor a",
    ),
    Bug(
        "cap-clips",
        ("layer.soft-cap",),
        (apply_cap, soft_cap_backward),
        """
        - y = x if cap is None else cap * np.tanh(x / cap)
        + y = np.clip(x, -cap, cap)
        - return dy if cap is None else dy * tanh_slope(x / cap)
        + return dy * (abs(x) < cap)
        """,
        "a soft cap that clips",
    ),
    Bug(
        "feed-forward-halves-swapped",
        ("layer.gated-feed-forward",),
        (layers.GatedFeedForward,),
        """
        - (pre, value), up = self.up.compute(x)
        + (value, pre), up = self.up.compute(x)
        - dx, up = self.up.compute_backward([dpre, dvalue], cache.up)
        + dx, up = self.up.compute_backward([dvalue, dpre], cache.up)
        """,
        "a feed-forward layer that takes the gate for the value, and the value for the gate",
    ),
    Bug(
        "repeated-tokens-counted-once",
        ("layer.embedding",),
        (layers.Embedding,),
        """
        - np.add.at(dW, flat.reshape(-1), dy.reshape(-1))
        + dW[flat.reshape(-1)] += dy.reshape(-1)
        """,
        "a backward that keeps the gradient of one of the places where a token stands",
    ),
    Bug(
        "loss-summed",
        ("layer.cross-entropy",),
        LOSS,
        """
        - loss = losses[counted].sum() / int(np.count_nonzero(counted))
        + loss = losses[counted].sum()
        - dlogits: Array = p * (counted * (scale / int(np.count_nonzero(counted))))[..., None]
        + dlogits: Array = p * (counted * scale)[..., None]
        """,
        "a loss that is the sum over positions, not their mean",
    ),
    Bug(
        "loss-averaged-over-rows",
        ("layer.cross-entropy",),
        LOSS,
        """
        - loss = losses[counted].sum() / int(np.count_nonzero(counted))
        + loss = losses[counted].sum() / len(targets)
        - dlogits: Array = p * (counted * (scale / int(np.count_nonzero(counted))))[..., None]
        + dlogits: Array = p * (counted * (scale / len(p)))[..., None]
        """,
        "a loss that is the mean over rows, and the sum over steps",
    ),
    Bug(
        "loss-gradient-without-target",
        ("layer.cross-entropy",),
        LOSS,
        """
        - others = dlogits.sum(axis=-1, keepdims=True)
        - np.put_along_axis(dlogits, target, -others, axis=-1)
        """,
        "a backward of the loss in which the target's logit gets no gradient",
    ),
    Bug(
        "residual-missing",
        ("block.*",),
        (ResidualBlock,),
        """
        - x = x + y
        + x = y
        - return dy + dx, dstate, self.named_grads(**grads)
        + return dx, dstate, self.named_grads(**grads)
        """,
        "a block without the residual around its recurrent layer",
    ),
    Bug(
        "norm-after-output-gate",
        ("block.xlstm-large", "model.xlstm-large"),
        (xLSTMLargeLayer,),
        """
        - normed, norm = self.multihead_norm.compute(h)
        - o, sigmoid = SIGMOID.forward(o_pre)
        - y, out = self.out_proj.compute(o * normed)
        + o, sigmoid = SIGMOID.forward(o_pre)
        + normed, norm = self.multihead_norm.compute(o * h)
        + y, out = self.out_proj.compute(normed)
        - do_pre = SIGMOID.backward(dgated * cache.normed, cache.sigmoid)
        - dnormed = dgated * cache.o
        - dh, norm = self.multihead_norm.compute_backward(dnormed, cache.norm)
        + dgated_h, norm = self.multihead_norm.compute_backward(dgated, cache.norm)
        + h = cache.mlstm.h
        + h = h.swapaxes(1, 2).reshape(dgated_h.shape)
        + do_pre = SIGMOID.backward(dgated_h * h, cache.sigmoid)
        + dh = dgated_h * cache.o
        """,
        "a layer that applies the output gate before the norm, not after it",
    ),
    Bug(
        "gates-not-capped",
        ("block.xlstm-large", "model.xlstm-large"),
        (xLSTMLargeLayer,),
        """
        - (i, i_cap), (f, f_cap) = (apply_cap(g, self.config.gate_soft_cap) for g in pre)
        + (i, i_cap), (f, f_cap) = (apply_cap(g, None) for g in pre)
        """,
        "a layer without the soft cap of the gates' pre-activations",
    ),
    Bug(
        "skip-missing",
        ("block.mlstm", "model.xlstm"),
        (mLSTMLayer,),
        """
        - read = self._arrays["learnable_skip"] * a
        + read = np.zeros_like(a)
        - dskip = np.einsum("btd,btd->d", dread, cache.active.y)
        + dskip = np.zeros_like(self._arrays["learnable_skip"])
        - dactive = dread * self._arrays["learnable_skip"]
        + dactive = np.zeros_like(dread)
        """,
        "an mLSTM block without its learnable skip",
    ),
    Bug(
        "skip-before-norm",
        ("block.mlstm", "model.xlstm"),
        (mLSTMLayer,),
        """
        - normed, norm = self.outnorm.compute(h)
        - read = self._arrays["learnable_skip"] * a
        + read, normed = np.zeros_like(a), h + self._arrays["learnable_skip"] * a
        + normed, norm = self.outnorm.compute(normed)
        - dskip = np.einsum("btd,btd->d", dread, cache.active.y)
        - dh, outnorm = self.outnorm.compute_backward(dread, cache.norm)
        + dread, outnorm = self.outnorm.compute_backward(dread, cache.norm)
        + dh = dread
        + dskip = np.einsum("btd,btd->d", dread, cache.active.y)
        """,
        "an mLSTM block that adds the skip before the norm, not after it",
    ),
    Bug(
        "values-from-convolution",
        ("block.mlstm", "model.xlstm"),
        (mLSTMLayer,),
        """
        - v, v_cache = self.v_proj.compute(inner)
        + v, v_cache = self.v_proj.compute(a)
        - dactive += from_k
        + dactive += from_k + from_v
        - from_v += from_conv
        + from_v = from_conv
        """,
        "an mLSTM block that takes the values from behind the convolution too",
    ),
    Bug(
        "gates-from-inner",
        ("block.slstm", "model.xlstm"),
        (sLSTMLayer,),
        """
        - fed = zip(self.gates, (active, active, x, x), strict=True)
        + fed = zip(self.gates, (active, active, active, active), strict=True)
        - dactive, dx, dconv = from_i + from_f, from_z + from_o, None
        + dactive, dx, dconv = from_i + from_f + from_z + from_o, np.zeros_like(from_z), None
        """,
        "an sLSTM block that feeds z and o from behind the convolution too",
    ),
    Bug(
        "gates-fed-as-named",
        ("block.slstm", "model.xlstm"),
        (sLSTMLayer,),
        """
        - fed = zip(self.gates, (active, active, x, x), strict=True)
        + fgate, igate, *rest = self.gates
        + fed = zip((igate, fgate, *rest), (active, active, x, x), strict=True)
        - taken = zip(self.gates, np.split(dWx, 4, axis=-1), cache.gates, strict=True)
        + fgate, igate, *rest = self.gates
        + taken = zip((igate, fgate, *rest), np.split(dWx, 4, axis=-1), cache.gates, strict=True)
        - named = dict(zip(GATES, gates, strict=True))
        + named = dict(zip((GATES[1], GATES[0], *GATES[2:]), gates, strict=True))
        """,
        "an sLSTM block that feeds igate to the input gate and fgate to the forget gate, as they "
        "are named, and not the other way round, as the official checkpoints need it",
    ),
    Bug(
        "logits-not-capped",
        ("model.xlstm-large",),
        (models.LanguageModel,),
        """
        - logits, capped = apply_cap(logits, self.cap)
        + logits, capped = apply_cap(logits, None)
        """,
        "a model without the soft cap of its logits",
    ),
]
