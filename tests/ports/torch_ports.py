"""LSTM, sLSTM and mLSTM in idiomatic PyTorch, differentiated by autograd."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

State = tuple[Tensor, ...]


class Port(torch.nn.Module):  # type: ignore[misc, unused-ignore]
    """A cell over x (B, T, D), or one step of it over x (B, D)."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options
        for name, shape in self.shapes().items():
            self.register_parameter(name, torch.nn.Parameter(torch.zeros(shape)))

    def shapes(self) -> dict[str, tuple[int, ...]]:
        raise NotImplementedError

    def init_state(self, batch_size: int) -> State:
        raise NotImplementedError

    def zeros(self, *shape: int) -> Tensor:
        """Return zeros in the current dtype of the parameters."""
        params: dict[str, Any] = dict(self.named_parameters())
        zeros: Tensor = next(iter(params.values())).new_zeros(shape)
        return zeros

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        raise NotImplementedError

    def forward(
        self, x: Tensor, state: State | None = None, lengths: Tensor | None = None
    ) -> tuple[Tensor, State]:
        state = self.init_state(len(x)) if state is None else state
        if x.ndim == 2:
            return self.step(x, state)
        ys = [x.new_zeros(len(x), 0, self.options["hidden_size"])]
        for t in range(x.shape[1]):
            y, after = self.step(x[:, t], state)
            if lengths is not None:
                live = t < lengths
                y = where_row(live, y, torch.zeros_like(y))
                after = tuple(where_row(live, a, b) for a, b in zip(after, state, strict=True))
            state = after
            ys.append(y[:, None])
        return torch.cat(ys, 1), state


def where_row(live: Tensor, a: Tensor, b: Tensor) -> Tensor:
    return torch.where(live.reshape(-1, *[1] * (a.ndim - 1)), a, b)


def larger(a: Tensor, b: Tensor) -> Tensor:
    """Return the maximum; torch.maximum would split the cotangent at a tie."""
    return torch.where(a >= b, a, b)


def log_gate(pre: Tensor, gate: str) -> Tensor:
    return logsigmoid(pre) if gate == "sigmoid" else pre


class Gated(Port):
    """Base class of LSTM and sLSTM."""

    W: Tensor
    R: Tensor
    b: Tensor

    @property
    def sizes(self) -> tuple[int, int, int]:
        options = self.options
        return options["input_size"], options["hidden_size"], options.get("num_heads", 1)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        D, H, NH = self.sizes
        return {"W": (4 * H, D), "R": (NH, 4 * H // NH, H // NH), "b": (4 * H,)}

    def gates(self, x: Tensor, h: Tensor) -> tuple[Tensor, ...]:
        _, H, NH = self.sizes
        R, heads = self.R.reshape(NH, 4, H // NH, H // NH), h.reshape(-1, NH, H // NH)
        Rh = torch.einsum("ngij,bnj->bgni", R, heads).reshape(-1, 4 * H)
        return torch.split(x @ self.W.T + Rh + self.b, H, 1)  # type: ignore[no-any-return, unused-ignore]


class LSTM(Gated):
    def shapes(self) -> dict[str, tuple[int, ...]]:
        _, H, _ = self.sizes
        return super().shapes() | {"R": (4 * H, H)}

    def init_state(self, batch_size: int) -> State:
        return tuple(self.zeros(2, batch_size, self.options["hidden_size"]))

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h, c = state
        i, f, z, o = self.gates(x, h)
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(z)
        h = torch.sigmoid(o) * torch.tanh(c)
        return h, (h, c)


class SLSTM(Gated):
    def init_state(self, batch_size: int) -> State:
        h, c, n, m = self.zeros(4, batch_size, self.options["hidden_size"])
        return h, c, n, m - torch.inf

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        h, c, n, m_prev = state
        i_pre, f_pre, z, o = self.gates(x, h)
        A = log_gate(f_pre, self.options["forget_gate"]) + m_prev
        limits = torch.finfo(A.dtype)
        underflows = (n == 0) & (torch.exp(i_pre - A) < limits.tiny / limits.eps)
        A = torch.where(underflows, -torch.inf, A)
        m = larger(A, i_pre)
        i, f = torch.exp(i_pre - m), torch.exp(A - m)
        c = f * c + i * torch.tanh(z)
        n = f * n + i
        h = torch.sigmoid(o) * (c / n)
        return h, (h, c, n, m)


class MLSTM(Port):
    """An mLSTM; with a sigmoid input gate (mLSTMsig), its state is only C."""

    W_q: Tensor
    W_k: Tensor
    W_v: Tensor
    W_i: Tensor
    W_f: Tensor
    W_o: Tensor
    b_q: Tensor
    b_k: Tensor
    b_v: Tensor
    b_i: Tensor
    b_f: Tensor
    b_o: Tensor

    def shapes(self) -> dict[str, tuple[int, ...]]:
        D, H, NH = (self.options[n] for n in ("input_size", "hidden_size", "num_heads"))
        QK = self.options["qk_dim"]
        rows = {"q": QK, "k": QK, "v": H, "i": NH, "f": NH, "o": H}
        shapes: dict[str, tuple[int, ...]] = {f"W_{g}": (n, D) for g, n in rows.items()}
        return shapes | {f"b_{g}": (n,) for g, n in rows.items()}

    @property
    def normalised(self) -> bool:
        return bool(self.options.get("input_gate", "exp") == "exp")

    def init_state(self, batch_size: int) -> State:
        QK, H, NH = (self.options[n] for n in ("qk_dim", "hidden_size", "num_heads"))
        C = self.zeros(batch_size, NH, QK // NH, H // NH)
        return (C, C[..., 0], C[..., 0, 0] - torch.inf) if self.normalised else (C,)

    def gates(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return q, k, v and the pre-activations of i, f and o."""
        heads = len(x), self.options["num_heads"], -1
        q = (x @ self.W_q.T + self.b_q).reshape(heads)
        k = (x @ self.W_k.T / (len(self.W_k) // heads[1]) ** 0.5 + self.b_k).reshape(heads)
        v = (x @ self.W_v.T + self.b_v).reshape(heads)
        i, f = x @ self.W_i.T + self.b_i, x @ self.W_f.T + self.b_f
        return q, k, v, i, f, x @ self.W_o.T + self.b_o

    def step(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        q, k, v, i, f, o = self.gates(x)
        log_i = log_gate(i, self.options.get("input_gate", "exp"))
        log_f, o = log_gate(f, self.options["forget_gate"]), torch.sigmoid(o)
        if not self.normalised:
            C = scaled(log_f, state[0]) + scaled(log_i, k)[..., None] * v[:, :, None]
            return o * torch.einsum("bhkv,bhk->bhv", C, q).reshape(o.shape), (C,)
        C, n, m_prev = state
        m = larger(log_f + m_prev, log_i)
        w = scaled(log_i - m, k)
        C = scaled(log_f + m_prev - m, C) + w[..., None] * v[:, :, None]
        n = scaled(log_f + m_prev - m, n) + w
        limit = -torch.log(torch.tensor(torch.finfo(m.dtype).tiny, dtype=m.dtype))
        floor = torch.exp(-torch.clamp(m, -limit, limit))
        den = larger(torch.abs((q * n).sum(-1)), floor) + self.options.get("eps", 1e-6)
        h = torch.einsum("bhkv,bhk->bhv", C, q) / den[..., None]
        return o * h.reshape(o.shape), (C, n, m)


def scaled(log: Tensor, array: Tensor) -> Tensor:
    """e^log, by head, times an array."""
    return torch.exp(log).reshape(*log.shape, *[1] * (array.ndim - log.ndim)) * array


PORTS: dict[str, Any] = {"lstm": LSTM, "slstm": SLSTM, "mlstm": MLSTM, "mlstmsig": MLSTM}
