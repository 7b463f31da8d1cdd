// brain.js: a cell of one row, a column; its LSTM has no c, so here it starts from zeros.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const [Equation, Matrix, { prototype: cell }] = ["matrix/equation", "matrix", "lstm"].map(
  (name) => require(`brain.js/dist/recurrent/${name}`).default,
);
const tensors = JSON.parse(readFileSync(0));
const [B, T, D] = tensors.x.shape;
const H = +process.argv[3];
const model = cell.getModel(H, D);
const like = ({ shape, data }) => ({ shape, data: data.map(() => 0) });
const results = { y: like(tensors.dy), dx: like(tensors.x) };
const pairs = [];
for (const [name, kind] of Object.entries({ W: "Matrix", R: "Hidden", b: "Bias" })) {
  const { data } = tensors[`params.${name}`];
  const grads = (results[`grads.${name}`] = like(tensors[`params.${name}`])).data;
  ["input", "forget", "cellActivation", "output"].forEach((gate, k) => {
    const start = (k * data.length) / 4;
    const matrix = model[gate + kind];
    matrix.weights.set(data.slice(start, start + data.length / 4));
    pairs.push([matrix, grads, start]);
  });
}
const put = (from, to, start) => from.forEach((value, j) => (to[start + j] += value));
for (let row = 0; row < B; row++) {
  pairs.forEach(([matrix]) => matrix.deltas.fill(0));
  const [hs, xs, steps] = [[new Matrix(H, 1)], [], []];
  for (let t = 0; t < T; t++) {
    const at = row * T + t;
    xs.push(new Matrix(D, 1));
    xs[t].weights.set(tensors.x.data.slice(at * D, (at + 1) * D));
    steps.push(new Equation());
    hs.push(cell.getEquation(steps[t], xs[t], hs[t], model));
    steps[t].runIndex();
    put(hs[t + 1].weights, results.y.data, at * H);
  }
  for (let t = T - 1; t >= 0; t--) {
    const at = row * T + t;
    put(tensors.dy.data.slice(at * H, (at + 1) * H), hs[t + 1].deltas, 0);
    steps[t].backpropagate();
    put(xs[t].deltas, results.dx.data, at * D);
  }
  pairs.forEach(([matrix, grads, start]) => put(matrix.deltas, grads, start));
}
console.log(JSON.stringify(results));
