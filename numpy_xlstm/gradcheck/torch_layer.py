"""Layers made from modules and functions of PyTorch."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
        params = {name: _tensor(array) for name, array in self.params.items()}
        given = tree_map(_tensor, inputs)
        with _by_default(self._dtype(inputs)) as dtype:
            found = self._call(params, given, tree_map(_tensor, more), dtype)
        outputs = [leaf for _, leaf in places("", found)]
        return found, (list(params.values()), given, outputs)

    def _call(self, params: dict[str, Any], inputs: Any, more: Any, dtype: Any) -> Any:
        torch, target = _torch(), self.target
        if not isinstance(target, torch.nn.Module):
            return target(*inputs, **more)
        rest = {**dict(target.named_parameters()), **dict(target.named_buffers())}
        constants = {n: _copy(t, dtype) for n, t in rest.items() if n not in params}
        return torch.func.functional_call(target, constants | params, inputs, more)

    def _pull_back(
        self, record: Any, cotangents: Sequence[Array]
    ) -> tuple[list[Array], tuple[Any, ...]]:
        params, inputs, outputs = record
        tensors = [*params, *(leaf for _, leaf in places("", inputs))]
        found = iter(_gradients(outputs, tensors, cotangents))
        return [next(found) for _ in params], rebuild(inputs, found)

    def _array(self, leaf: Any) -> Array:
        if not isinstance(leaf, _torch().Tensor):
            raise TypeError(
                "from_torch: expected outputs of tensors, or tuples, lists and dicts of them; "
                f"got {type(leaf).__name__}"
            )
        found: Array = leaf.detach().cpu().numpy().copy()
        return found


def _gradients(outputs: list[Any], tensors: list[Any], cotangents: Sequence[Array]) -> list[Any]:
    """Return gradients of tensors as arrays: 0 if autograd has none, None for integers."""
    torch = _torch()
    pairs = [(o, torch.tensor(c)) for o, c in zip(outputs, cotangents, strict=True)]
    pairs = [(output, cotangent) for output, cotangent in pairs if output.requires_grad]
    wanted = [n for n, tensor in enumerate(tensors) if tensor.requires_grad]
    gradients = [torch.zeros_like(t).numpy() if t.requires_grad else None for t in tensors]
    if pairs and wanted:
        reached, given = zip(*pairs, strict=True)
        found = torch.autograd.grad(
            reached, [tensors[n] for n in wanted], given, retain_graph=True, allow_unused=True
        )
        for n, gradient in zip(wanted, found, strict=True):
            gradients[n] = gradients[n] if gradient is None else gradient.numpy()
    return gradients


def _tensor(array: Array) -> Any:
    """Return a copy as a tensor."""
    return _torch().tensor(array, requires_grad=is_floating(array))


def _copy(tensor: Any, dtype: Any) -> Any:
    """Return a copy on the CPU; a floating-point tensor is converted to this dtype."""
    copy = tensor.detach().cpu().clone()
    return copy.to(dtype) if copy.is_floating_point() else copy


@contextmanager
def _by_default(dtype: Any) -> Iterator[Any]:
    """Set the default dtype of PyTorch within the context, as for ``torch.zeros``."""
    torch = _torch()
    before = torch.get_default_dtype()
    torch.set_default_dtype(getattr(torch, str(dtype)))
    try:
        yield torch.get_default_dtype()
    finally:
        torch.set_default_dtype(before)


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError("from_torch needs PyTorch: pip install torch") from error
    return torch
