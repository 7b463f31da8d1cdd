// brain.js: a cell of one row, a column; its LSTM has no c, so here it starts from zeros.
const [Equation, Matrix, { prototype: cell }] = ["matrix/equation", "matrix", "lstm"].map(
  (name) => require(`brain.js/dist/recurrent/${name}`).default,
);
const given = JSON.parse(require("node:fs").readFileSync(0));
const [D, H] = [given.x[0][0].length, given.dy[0][0].length];
const gates = ["input", "forget", "cellActivation", "output"];
const kinds = { "params.W": "Matrix", "params.R": "Hidden", "params.b": "Bias" };

function row(x, dy) {
  const model = cell.getModel(H, D);
  for (const name in kinds)
    gates.forEach((gate, k) =>
      model[gate + kinds[name]].weights.set(given[name].slice(k * H, (k + 1) * H).flat()),
    );
  const hs = [new Matrix(H, 1)];
  const steps = x.map(() => new Equation());
  const xs = x.map(() => new Matrix(D, 1));
  x.forEach((values, t) => {
    xs[t].weights.set(values);
    hs.push(cell.getEquation(steps[t], xs[t], hs[t], model));
    steps[t].runIndex();
  });
  for (let t = x.length - 1; t >= 0; t--) {
    dy[t].forEach((value, j) => (hs[t + 1].deltas[j] += value));
    steps[t].backpropagate();
  }
  const [y, dx] = [hs.slice(1).map((h) => [...h.weights]), xs.map((x) => [...x.deltas])];
  const grads = (name) => gates.flatMap((gate) => [...model[gate + kinds[name]].deltas]);
  return { y, dx, W: grads("params.W"), R: grads("params.R"), b: grads("params.b") };
}
const rows = given.x.map((x, k) => row(x, given.dy[k]));
const stacked = Object.keys(rows[0]).map((name) => [name, rows.map((row) => row[name])]);
console.log(JSON.stringify(Object.fromEntries(stacked)));
