// One step of an LSTM, forward and backward, from the tensors of a case of lstm.step.

const sigmoid = (x) => 1 / (1 + Math.exp(-x));

/** Computes all results in doubles, and rounds them to the dtype of the case. */
export function lstmStep(inputs) {
  const [B, D] = inputs.x.shape;
  const H = inputs["params.b"].shape[0] / 4;
  const { data: W } = inputs["params.W"];
  const { data: R } = inputs["params.R"];
  const { data: b } = inputs["params.b"];
  const x = inputs.x.data;
  const zeros = (size) => new Float64Array(size);
  const given = (name) => inputs[name]?.data ?? zeros(B * H);
  const h0 = given("state.h");
  const c0 = given("state.c");
  const found = {
    y: zeros(B * H), "final.h": zeros(B * H), "final.c": zeros(B * H),
    dx: zeros(B * D), "dstate0.h": zeros(B * H), "dstate0.c": zeros(B * H),
    "grads.W": zeros(4 * H * D), "grads.R": zeros(4 * H * H), "grads.b": zeros(4 * H),
  };
  for (let row = 0; row < B; row += 1) {
    const pre = b.map((bias, g) => {
      let sum = bias;
      for (let d = 0; d < D; d += 1) sum += W[g * D + d] * x[row * D + d];
      for (let d = 0; d < H; d += 1) sum += R[g * H + d] * h0[row * H + d];
      return sum;
    });
    const dpre = zeros(4 * H);
    for (let unit = 0; unit < H; unit += 1) {
      const at = row * H + unit;
      const [i, f, o] = [0, 1, 3].map((gate) => sigmoid(pre[gate * H + unit]));
      const z = Math.tanh(pre[2 * H + unit]);
      const c = f * c0[at] + i * z;
      const tanhC = Math.tanh(c);
      found.y[at] = found["final.h"][at] = o * tanhC;
      found["final.c"][at] = c;
      const dh = given("dy")[at] + given("dstate.h")[at];
      const dc = given("dstate.c")[at] + dh * o * (1 - tanhC * tanhC);
      dpre[unit] = dc * z * i * (1 - i);
      dpre[H + unit] = dc * c0[at] * f * (1 - f);
      dpre[2 * H + unit] = dc * i * (1 - z * z);
      dpre[3 * H + unit] = dh * tanhC * o * (1 - o);
      found["dstate0.c"][at] = dc * f;
    }
    dpre.forEach((d, g) => {
      found["grads.b"][g] += d;
      for (let n = 0; n < D; n += 1) {
        found["grads.W"][g * D + n] += d * x[row * D + n];
        found.dx[row * D + n] += d * W[g * D + n];
      }
      for (let n = 0; n < H; n += 1) {
        found["grads.R"][g * H + n] += d * h0[row * H + n];
        found["dstate0.h"][row * H + n] += d * R[g * H + n];
      }
    });
  }
  if (inputs.x.dtype === "F32") {
    for (const [name, data] of Object.entries(found)) found[name] = data.map(Math.fround);
  }
  return found;
}
