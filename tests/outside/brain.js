// brain.js: a cell of one row, a column; its LSTM has no c, so here it starts from zeros.
const [Equation, Matrix, { prototype: cell }] = ["matrix/equation", "matrix", "lstm"].map(
  (name) => require(`brain.js/dist/recurrent/${name}`).default,
);
const given = JSON.parse(require("node:fs").readFileSync(0));
const [D, H] = [given.x[0][0].length, given.dy[0][0].length];
const gates = ["input", "forget", "cellActivation", "output"];
const kinds = { W: "Matrix", R: "Hidden", b: "Bias" };

function row(x, dy) {
  const [model, results] = [cell.getModel(H, D), {}];
  for (const name in kinds)
    gates.forEach((gate, k) => {
      const rows = given[`params.${name}`].slice(k * H, (k + 1) * H);
      model[gate + kinds[name]].weights.set(rows.flat());
    });
  const hs = [new Matrix(H, 1)];
  const steps = x.map(() => new Equation());
  const xs = x.map(() => new Matrix(D, 1));
  x.forEach((values, t) => {
    xs[t].weights.set(values);
    hs.push(cell.getEquation(steps[t], xs[t], hs[t], model));
    steps[t].runIndex();
  });
  results.y = hs.slice(1).map((h) => [...h.weights]);
  for (let t = x.length - 1; t >= 0; t--) {
    dy[t].forEach((value, j) => (hs[t + 1].deltas[j] += value));
    steps[t].backpropagate();
  }
  results.dx = xs.map((x) => [...x.deltas]);
  for (const name in kinds)
    results[name] = gates.flatMap((gate) => [...model[gate + kinds[name]].deltas]);
  return results;
}
const rows = given.x.map((x, k) => row(x, given.dy[k]));
const names = Object.keys(rows[0]);
console.log(JSON.stringify(Object.fromEntries(names.map((n) => [n, rows.map((row) => row[n])]))));
