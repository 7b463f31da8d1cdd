// TensorFlow.js: layers with transposed kernels; the gates of its GRU are z, r, n.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const require = createRequire(import.meta.url);
const tf = require("@tensorflow/tfjs-core");
require("@tensorflow/tfjs-backend-cpu");
const { layers } = require("@tensorflow/tfjs-layers");
const tensors = JSON.parse(readFileSync(0));
const [family, H, activation] = process.argv.slice(2);
const lstm = family === "lstm";
const [order, parts] = [lstm ? [0, 1, 2, 3] : [1, 0, 2], lstm ? ["h", "c"] : ["h"]];
const places = family === "elman" ? [0] : order; // its own inverse
const permuted = (a) => tf.concat(places.map((k) => tf.split(a, places.length)[k]));
const tensor = (name) => tf.tensor(tensors[name].data, tensors[name].shape, "float32");
const make = { lstm: layers.lstm, "original-gru": layers.gru, elman: layers.simpleRNN }[family];
const layer = make({
  ...{ units: +H, activation, recurrentActivation: "sigmoid", recurrentInitializer: "zeros" },
  ...{ returnSequences: true, returnState: true },
});
await tf.setBackend("cpu");
const [W, R, b] = ["W", "R", "b"].map((name) => permuted(tensor(`params.${name}`)));
const zeros = () => tf.zeros([tensors.x.shape[0], +H]);
const state = parts.map((p) => (`state.${p}` in tensors ? tensor(`state.${p}`) : zeros()));
const run = (x, ...initialState) => layer.apply(x, { initialState });
run(tensor("x"), ...state);
layer.setWeights([tf.transpose(W), tf.transpose(R), b]);
const cotangents = ["dy", ...parts.map((p) => `dstate.${p}`)].map(tensor);
const loss = (...inputs) =>
  run(...inputs).reduce((sum, a, k) => tf.add(sum, tf.sum(tf.mul(a, cotangents[k]))), 0);
const variables = layer.trainableWeights.map((weight) => weight.val);
const [dx, ...dstate] = tf.grads(loss)([tensor("x"), ...state]);
const { grads } = tf.variableGrads(() => loss(tensor("x"), ...state), variables);
const [dW, dR, db] = variables.map(({ name }) => grads[name]);
const [y, ...last] = run(tensor("x"), ...state);
const results = { y, dx, "grads.b": permuted(db) };
results["grads.W"] = permuted(tf.transpose(dW));
results["grads.R"] = permuted(tf.transpose(dR));
parts.forEach((p, k) => {
  results[`final.${p}`] = last[k];
  results[`dstate0.${p}`] = dstate[k];
});
const pairs = Object.entries(results);
const described = pairs.map(([name, a]) => [name, { shape: a.shape, data: [...a.dataSync()] }]);
console.log(JSON.stringify(Object.fromEntries(described)));
