// ONNX Runtime for browsers: runs the model of a file.
const ort = require("onnxruntime-web");
ort.env.wasm.numThreads = 1;
const { X } = JSON.parse(require("node:fs").readFileSync(0));
(async () => {
  const session = await ort.InferenceSession.create(process.argv[2]);
  const shape = [X.length, X[0].length, X[0][0].length];
  const results = await session.run({ X: new ort.Tensor("float32", X.flat(2), shape) });
  for (const name in results) results[name] = [...results[name].data];
  console.log(JSON.stringify(results));
})();
