"""Computations of PyTorch and of the official packages, which are imported when they are timed."""

from collections.abc import Callable
from typing import Any

import torch

from benchmarks.ours import Model, draw, make_layer, mlstm_inputs
from benchmarks.timing import Work


def torch_module(kind: str, H: int) -> Any:
    """Return ``torch.nn.LSTM``, ``GRU`` or ``RNN`` with the weights of numpy_xlstm."""
    layer = getattr(torch.nn, kind)(H, H, batch_first=True)
    ours = make_layer(kind, H).params
    layer.load_state_dict({name: torch.tensor(array) for name, array in ours.items()})
    return layer


def torch_layer(kind: str, B: int, T: int, H: int) -> Work:
    layer = torch_module(kind, H)
    x, dy = torch.tensor(draw(B, T, H), requires_grad=True), torch.tensor(draw(B, T, H))
    return forward_backward(lambda: layer(x), lambda y: y[:, -1], dy, [x, *layer.parameters()])


def layer_forward(kind: str, B: int, T: int, H: int) -> Work:
    layer, x = torch_module(kind, H).eval(), torch.tensor(draw(B, T, H))

    def work() -> Any:
        with torch.inference_mode():
            return layer(x)[0][:, -1]

    return work


def forward_backward(
    forward: Callable[[], Any], last: Callable[[Any], Any], dy: Any, leaves: list[Any]
) -> Work:
    """Run a forward and a backward in PyTorch after resetting gradients."""

    def work() -> Any:
        for leaf in leaves:
            leaf.grad = None
        found = forward()
        y = found[0] if isinstance(found, tuple) else found
        y.backward(dy)
        return last(y.detach())

    return work


def xlstm_slstm(B: int, T: int, H: int, NH: int) -> Work:
    """Set up a linear map and the vanilla sLSTM of ``xlstm`` with the weights of numpy_xlstm."""
    from xlstm.blocks.slstm.cell import sLSTMCell, sLSTMCellConfig

    parts = ("", "_b", "_r", "_w", "_g", "_s", "_a")
    options: dict[str, Any] = {f"dtype{part}": "float32" for part in parts}
    options |= {"backend": "vanilla", "enable_automatic_mixed_precision": False}
    cell: Any = sLSTMCell(sLSTMCellConfig(hidden_size=H, num_heads=NH, **options))
    linear = torch.nn.Linear(H, 4 * H, bias=False)
    W, R, b = (torch.tensor(make_layer("sLSTM", H, NH).params[name]) for name in "WRb")
    with torch.no_grad():
        linear.weight.copy_(W)
        cell._recurrent_kernel_.copy_(R.reshape(cell._recurrent_kernel_.shape))
        cell._bias_.copy_(b.reshape(cell._bias_.shape))
    x = torch.tensor(draw(B, T, H), requires_grad=True)
    dy = torch.tensor(draw(B, T, H)).reshape(B, T, NH, H // NH).transpose(1, 2)  # as its outputs
    leaves = [x, *linear.parameters(), *cell.parameters()]
    return forward_backward(
        lambda: cell(linear(x)), lambda y: y[:, :, -1].reshape(B, H), dy, leaves
    )


def torch_mlstm(function: Callable[..., Any], *sizes: int) -> Work:
    inputs = [torch.tensor(array, requires_grad=True) for array in mlstm_inputs(*sizes)]
    return forward_backward(
        lambda: function(*inputs), lambda h: h[:, :, -1], inputs[2].detach(), inputs
    )


def mlstm_kernels(kind: str, chunk_size: int, *sizes: int) -> Work:
    """Set up a native chunkwise kernel of ``mlstm_kernels``."""
    from mlstm_kernels.torch.chunkwise import native

    function = getattr(native, f"mlstm_chunkwise__native_{kind}")
    return torch_mlstm(lambda *inputs: function(*inputs, chunk_size=chunk_size), *sizes)


def xlstm_chunkwise(*sizes: int) -> Work:
    from xlstm.blocks.mlstm.backends import chunkwise_simple as function

    return torch_mlstm(lambda q, k, v, i, f: function(q, k, v, i[..., None], f[..., None]), *sizes)


def torch_adamw(implementation: str, arrays: int, size: int) -> Work:
    params = [torch.nn.Parameter(torch.tensor(draw(size, size))) for _ in range(arrays)]
    for param in params:
        param.grad = param.detach() / 10
    options: dict[str, Any] = {implementation: True}
    step: Callable[[], Any] = torch.optim.AdamW(params, **options).step
    return step


def official_model(spec: Model, inference: bool) -> Any:
    torch.manual_seed(0)
    if spec.slstm_at is None:
        from xlstm.xlstm_large.model import xLSTMLarge, xLSTMLargeConfig

        kernels = {
            "chunkwise_kernel": "chunkwise--native_autograd",
            "sequence_kernel": "native_sequence__native",
            "step_kernel": "native",
            "mode": "inference" if inference else "train",
            "return_last_states": True,
            "autocast_kernel_dtype": "float32",
        }
        return xLSTMLarge(xLSTMLargeConfig(**spec.options, **kernels))
    import xlstm

    slstm = xlstm.sLSTMLayerConfig(backend="vanilla", dtype="float32")
    config = xlstm.xLSTMLMModelConfig(
        mlstm_block=xlstm.mLSTMBlockConfig(),
        slstm_block=xlstm.sLSTMBlockConfig(slstm=slstm),
        context_length=spec.T,
        **spec.options,
    )
    return xlstm.xLSTMLMModel(config)


def official_training(spec: Model) -> Work:
    model = official_model(spec, inference=False)
    optimizer = torch.optim.AdamW(model.parameters())
    inputs, targets = (torch.tensor(array) for array in spec.batch())

    def work() -> None:
        optimizer.zero_grad()
        logits = model(inputs)
        logits = logits[0] if isinstance(logits, tuple) else logits
        loss: Any = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
        loss.backward()
        optimizer.step()

    return work


def official_prefill(spec: Model) -> Work:
    model, tokens = official_model(spec, inference=True).eval(), torch.tensor(spec.batch()[0])

    def work() -> None:
        with torch.no_grad():
            model(tokens)

    return work


def official_generation(spec: Model, tokens: int) -> Work:
    model = official_model(spec, inference=True).eval()
    step: Callable[..., Any] = model if spec.slstm_at is None else model.step

    def work() -> None:
        with torch.no_grad():
            token, state = torch.ones((1, 1), dtype=torch.int64), None
            for _ in range(tokens):
                logits, state = step(token, state)
                token = logits[:, -1:].argmax(-1)

    return work
