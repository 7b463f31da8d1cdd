"""TensorFlow: fused operators, with a backward of their own; x and h in one matrix, (T, B, D)."""

from tests.outside.shared import Case, Tensor, differentiated, outside


def vjp(function: Tensor, arrays: list[Tensor], cotangents: list[Tensor]) -> Tensor:
    import tensorflow as tf

    leaves = [*map(tf.Variable, arrays)]
    with tf.GradientTape() as tape:
        outputs = function(*leaves)
    return outputs, tape.gradient(outputs, leaves, [*map(tf.constant, cotangents)])


def forward(name: str, case: Case, x: Tensor, state: Tensor, *params: Tensor) -> Tensor:
    import tensorflow as tf

    old = name == "BlockLSTM"
    W, R, b = (
        tf.concat([tf.split(array, 4)[k] for k in ((0, 2, 1, 3) if old else range(4))], 0)
        for array in params
    )
    zero = tf.zeros(case.options["hidden_size"])
    more: dict[str, Tensor] = {"wci": zero, "wcf": zero, "wco": zero, "use_peephole": False}
    more |= {"seq_len_max": x.shape[1], "cell_clip": -1} | ({"forget_bias": 0} if old else {})
    x, w, (h, c) = tf.transpose(x, (1, 0, 2)), tf.transpose(tf.concat([W, R], 1)), state
    found = getattr(tf.raw_ops, name)(x=x, h_prev=h, cs_prev=c, w=w, b=b, **more)
    return tf.transpose(found.h, (1, 0, 2)), found.h[-1], found.cs[-1]


PORT, FUNCTIONS = differentiated(vjp, forward), "BlockLSTM lstm, BlockLSTMV2 lstm"
IMPLEMENTATIONS = outside("tensorflow>=2.20,<2.23", PORT, FUNCTIONS, dtype="float32")
