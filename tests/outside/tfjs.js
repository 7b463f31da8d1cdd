// TensorFlow.js: layers with transposed kernels; the arguments are the layer, units and activation.
const tf = require("@tensorflow/tfjs-core");
require("@tensorflow/tfjs-backend-cpu");
const { layers } = require("@tensorflow/tfjs-layers");

const [name, units, activation] = process.argv.slice(2);
const given = JSON.parse(require("node:fs").readFileSync(0));
const tensor = (name) => tf.tensor(given[name]);
const parts = name === "lstm" ? ["h", "c"] : ["h"];
const layer = layers[name]({
  units: +units,
  activation,
  recurrentActivation: "sigmoid",
  recurrentInitializer: "zeros",
  returnSequences: true,
  returnState: true,
});
const run = (x, ...initialState) => layer.apply(x, { initialState });
const inputs = [tensor("x"), ...parts.map((part) => tensor(`state.${part}`))];
run(...inputs); // which makes the weights
layer.setWeights([tf.transpose(tensor("W")), tf.transpose(tensor("R")), tensor("b")]);

const cotangents = ["dy", ...parts.map((part) => `dstate.${part}`)].map(tensor);
const loss = (...inputs) =>
  run(...inputs).reduce((sum, a, k) => tf.add(sum, tf.sum(tf.mul(a, cotangents[k]))), 0);
const [dx, ...dstate] = tf.grads(loss)(inputs);
const variables = layer.trainableWeights.map((weight) => weight.val);
const { grads } = tf.variableGrads(() => loss(...inputs), variables);
const [dW, dR, db] = variables.map(({ name }) => grads[name]);
const [y, ...last] = run(...inputs);
const results = { y, dx, dW: tf.transpose(dW), dR: tf.transpose(dR), db };
parts.forEach((part, k) => {
  results[`final.${part}`] = last[k];
  results[`dstate0.${part}`] = dstate[k];
});
for (const name in results) results[name] = results[name].arraySync();
console.log(JSON.stringify(results));
