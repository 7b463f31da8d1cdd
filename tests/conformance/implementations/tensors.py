"""A forward in PyTorch, differentiated by autograd, with the names of the kit."""

from collections.abc import Callable, Mapping
from typing import Any

from numpy_xlstm.conformance import Case
from numpy_xlstm.numerics import Array

Tensors = dict[str, Any]
COTANGENTS = "dy", "dstate."


def autograd(forward: Callable[[Case, Tensors], Tensors]) -> Callable[[Case], Mapping[str, Array]]:
    """Make a port from a forward of (case, inputs) that returns ``y`` and ``final.…``."""

    def port(case: Case) -> dict[str, Array]:
        import torch

        given = {n: torch.tensor(a) for n, a in case.inputs.items() if not is_cotangent(n)}
        for tensor in given.values():
            tensor.requires_grad_(tensor.is_floating_point())
        outputs = forward(case, given)
        leaves = {n: tensor for n, tensor in given.items() if tensor.requires_grad}
        used = [name for name, tensor in outputs.items() if tensor.requires_grad]
        found = tuple(torch.zeros_like(tensor) for tensor in leaves.values())
        if used:
            found = torch.autograd.grad(
                [outputs[name] for name in used],
                list(leaves.values()),
                [torch.tensor(case.inputs[cotangent(name)]) for name in used],
                allow_unused=True,
                materialize_grads=True,
            )
        results = dict(outputs) | dict(zip(map(gradient, leaves), found, strict=True))
        return {n: tensor.detach().numpy().copy() for n, tensor in results.items()}

    return port


def is_cotangent(name: str) -> bool:
    """Return whether an input is a cotangent."""
    return name.startswith(COTANGENTS)


def cotangent(output: str) -> str:
    """The name of the cotangent of an output."""
    return "dy" if output == "y" else output.replace("final.", "dstate.")


def gradient(given: str) -> str:
    """The name of the gradient of an input."""
    if given.startswith("params."):
        return given.replace("params.", "grads.")
    return f"d{given}".replace("dstate.", "dstate0.")
