import numpy as np
import pytest

from numpy_xlstm import gradcheck
from numpy_xlstm.layers import ACTIVATIONS, GatedFeedForward
from tests.layers.points import arrays, filled
from tests.variants import assert_close


@pytest.mark.parametrize("act_fn", ["relu", "relu^2", "selu"])
def test_the_backward_is_exact_on_the_sides_of_a_kink(act_fn: str) -> None:
    rng = np.random.default_rng(1)
    layer = filled(GatedFeedForward(3, 4, act_fn, True, rng=rng), rng)
    report = gradcheck(layer, rng.standard_normal((5, 3)), rng=rng)
    assert report.passed, str(report)


@pytest.mark.parametrize("act_fn", list(ACTIVATIONS))
@pytest.mark.parametrize("bias", [True, False])
def test_fused_equals_apart_equals_the_equation(act_fn: str, bias: bool) -> None:
    rng = np.random.default_rng(2)
    apart = filled(GatedFeedForward(3, 4, act_fn, bias, fused=None, rng=rng), rng)
    p = apart.params
    stacked = {
        name: np.concatenate((p[name.replace("proj_up", "proj_up_gate")], p[name]))
        if name.startswith("proj_up")
        else p[name]
        for name in GatedFeedForward(3, 4, act_fn, bias).params
    }
    fused = GatedFeedForward(3, 4, act_fn, bias).with_params(stacked)
    x, dy = rng.standard_normal((2, 2, 5, 3))
    y, dx, *grads = arrays(apart, x, dy)
    fused_y, fused_dx, fused_up, *_ = arrays(fused, x, dy)
    assert_close((fused_y, fused_dx), (y, dx), 1e-13)
    up = [g for name, g in zip(p, grads, strict=True) if name.endswith("weight")][:2]
    assert_close(fused_up, np.concatenate(up), 1e-13)

    b = {name: p.get(f"{name}.bias", 0.0) for name in ("proj_up_gate", "proj_up", "proj_down")}
    gate, _ = ACTIVATIONS[act_fn].forward(x @ p["proj_up_gate.weight"].T + b["proj_up_gate"])
    value = x @ p["proj_up.weight"].T + b["proj_up"]
    expected = (gate * value) @ p["proj_down.weight"].T + b["proj_down"]
    assert_close(y, expected, 1e-13)
