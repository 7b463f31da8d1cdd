"""Names that users of PyTorch try, and that this package takes, has in another form, or lacks."""

_CPU = "leave it out: all arrays are NumPy arrays in the memory of the CPU"
_DROPOUT = "leave it out: entries are dropped only if forward gets rng=…"
_ENTROPY = "write loss, cache = softmax_cross_entropy(logits, targets)"
_STACK = "write stack_layers(sLSTM, 10, 20, num_layers=2), which also has dropout and bidirectional"
_NOTHING_KEPT = "leave it out: layer(x) keeps no residuals, and layer.forward(x) returns them"

SENTENCES = {
    # of a module or an optimiser
    "modules": "write print(model), which shows all parts, or params, which has all their arrays",
    "train": _DROPOUT,
    "eval": _DROPOUT,
    "to": "write astype(np.float32) for another dtype; there is no device but the CPU",
    "cuda": _CPU,
    "cpu": _CPU,
    "float": "write astype(np.float32)",
    "double": "write astype(np.float64)",
    "half": "write astype(np.float32), the smallest supported dtype",
    "zero_grad": "leave it out: each backward returns new gradients, and none are added up",
    "grad": "write dx, dstate0, grads = layer.backward(dy, cache)",
    "requires_grad_": "leave it out: backward returns the gradients of all parameters",
    "flatten_parameters": "leave it out: it has no effect on the CPU",
    "param_groups": "write optimizer.lr = … for all; AdamW(params, decays=…) selects what decays",
    # options
    "generator": "write rng=np.random.default_rng(0)",
    "seed": "write rng=0, a seed, or rng=np.random.default_rng(0)",
    "device": _CPU,
    "num_layers": _STACK,
    "bidirectional": _STACK,
    "dropout": _STACK,
    # of the package
    "manual_seed": "write rng=0 in each constructor",
    "no_grad": _NOTHING_KEPT,
    "inference_mode": _NOTHING_KEPT,
    "nn": "write numpy_xlstm.LSTM: the layers are in the package itself",
    "optim": "write numpy_xlstm.AdamW",
    "Adam": "write AdamW(model.params, weight_decay=0)",
    "SGD": "write params[name] -= lr * grads[name] for each name in grads",
    "tensor": "write np.array(…)",
    "Tensor": "write np.ndarray",
    "from_numpy": "leave it out: every layer takes and returns NumPy arrays",
    "cross_entropy": _ENTROPY,
    "CrossEntropyLoss": _ENTROPY,
    "MSELoss": "write dy = 2 * (y - target) / y.size, which backward takes",
    "clip_grad_norm_": "write grads, norm = clip_grad_norm(grads, max_norm)",
    "save": "write save_pretrained(model, path)",
    "load": "write model = from_pretrained(path)",
    "pack_padded_sequence": "write layer.forward(x, lengths=…)",
    "pad_packed_sequence": "write layer.forward(x, lengths=…)",
    "Sequential": "call one layer after the other, or write stack_layers for recurrent layers",
    "Conv1d": "write CausalConv1d",
}
"""Names of PyTorch and the advice for each. It appears in the errors about unknown attributes of
modules, optimisers and the package, and on the page "Coming from PyTorch"."""


def explained(message: object, name: str) -> str:
    """Return the message of an error about a name, with the sentence for that name, if any."""
    return f"{message}; {SENTENCES[name]}" if name in SENTENCES else str(message)
