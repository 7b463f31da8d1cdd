"""Layers made from modules and functions of PyTorch."""

from collections.abc import Callable, Sequence
from typing import Any

from numpy_xlstm.errors import MissingExtraError
from numpy_xlstm.gradcheck.autodiff import AutodiffLayer
from numpy_xlstm.gradcheck.target import is_floating
from numpy_xlstm.numerics import Array
from numpy_xlstm.trees import places, rebuild, tree_map


def from_torch(target: Callable[..., Any]) -> AutodiffLayer:
    """Make a layer from a PyTorch module or function, whose backward is that of autograd.

    The check includes everything that autograd calls: an ``autograd.Function``, a kernel, a wrong
    ``detach``. A module is not modified: float64 copies of its parameters and buffers on the CPU
    are used instead, and ``torch.zeros`` returns float64. References are differences, because there
    is no complex step.

    Parameters
    ----------
    target : torch.nn.Module or callable
        Function of tensors, tuples, lists and dicts of tensors, and None, that returns the same
        kinds. The first of several outputs is y, and the others are the state. Parameters that
        require no gradient are constants.

    Returns
    -------
    AutodiffLayer
        A layer for :func:`numpy_xlstm.gradcheck`, with ``params``, ``forward`` and ``backward``.

    Raises
    ------
    TypeError
        If ``target`` is not callable.
    MissingExtraError
        If PyTorch is not installed.

    Examples
    --------
    .. code-block:: python

        report = gradcheck(from_torch(torch.nn.LSTM(3, 4)), rng.standard_normal((5, 2, 3)))

    >>> from numpy_xlstm.gradcheck import from_torch
    >>> from_torch(3)
    Traceback (most recent call last):
    TypeError: from_torch: expected a module or a function; got 3
    """
    if not callable(target):
        raise TypeError(f"from_torch: expected a module or a function; got {target!r}")
    params = {}
    if isinstance(target, _torch().nn.Module):
        trained = {n: p for n, p in target.named_parameters() if p.requires_grad}
        params = {n: _copy(p, _torch().float64).numpy() for n, p in trained.items()}
    return _TorchLayer(target, params)


class _TorchLayer(AutodiffLayer):
    """See :func:`from_torch`."""

    def _evaluate(self, inputs: tuple[Any, ...], more: dict[str, Any]) -> tuple[Any, Any]:
        torch, target = _torch(), self.target
        params = {name: _tensor(array) for name, array in self.params.items()}
        given, options = tree_map(_tensor, inputs), tree_map(_tensor, more)
        dtype, before = getattr(torch, str(self._dtype(inputs))), torch.get_default_dtype()
        torch.set_default_dtype(dtype)  # for a function that calls torch.zeros
        try:
            if isinstance(target, torch.nn.Module):
                rest = {**dict(target.named_parameters()), **dict(target.named_buffers())}
                constants = {n: _copy(t, dtype) for n, t in rest.items() if n not in params}
                result = torch.func.functional_call(target, constants | params, given, options)
            else:
                result = target(*given, **options)
        finally:
            torch.set_default_dtype(before)
        return result, (list(params.values()), given, [leaf for _, leaf in places("", result)])

    def _pull_back(
        self, record: Any, cotangents: Sequence[Array]
    ) -> tuple[list[Array], tuple[Any, ...]]:
        torch = _torch()
        params, inputs, outputs = record
        given = [leaf for _, leaf in places("", inputs)]
        tensors = [tensor for tensor in (*params, *given) if tensor.requires_grad]
        pairs = [(o, torch.tensor(c)) for o, c in zip(outputs, cotangents, strict=True)]
        pairs = [(output, cotangent) for output, cotangent in pairs if output.requires_grad]
        gradients = [torch.zeros_like(tensor) for tensor in tensors]
        if pairs and tensors:
            reached, back = zip(*pairs, strict=True)
            how = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
            gradients = torch.autograd.grad(reached, tensors, back, **how)
        named = {id(t): g.numpy() for t, g in zip(tensors, gradients, strict=True)}
        dinputs = rebuild(inputs, (named.get(id(tensor)) for tensor in given))
        return [named[id(tensor)] for tensor in params], dinputs

    def _array(self, leaf: Any) -> Array:
        if not isinstance(leaf, _torch().Tensor):
            raise TypeError(
                "from_torch: expected outputs of tensors, or tuples, lists and dicts of them; "
                f"got {type(leaf).__name__}"
            )
        array: Array = leaf.detach().cpu().numpy().copy()
        return array


def _tensor(array: Array) -> Any:
    """Return a copy as a tensor."""
    return _torch().tensor(array, requires_grad=is_floating(array))


def _copy(tensor: Any, dtype: Any) -> Any:
    """Return a copy on the CPU; a floating-point tensor is converted to this dtype."""
    copy = tensor.detach().cpu().clone()
    return copy.to(dtype) if copy.is_floating_point() else copy


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError("from_torch needs PyTorch: pip install torch") from error
    return torch
