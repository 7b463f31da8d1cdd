// ONNX Runtime for browsers: runs the model named by the argument.
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

const ort = createRequire(import.meta.url)("onnxruntime-web");
ort.env.wasm.numThreads = 1;
const { X } = JSON.parse(readFileSync(0));
const session = await ort.InferenceSession.create(process.argv[2]);
const feeds = { X: new ort.Tensor("float32", Float32Array.from(X.data), X.shape) };
const pairs = Object.entries(await session.run(feeds));
const described = pairs.map(([name, a]) => [name, { shape: a.dims, data: [...a.data] }]);
console.log(JSON.stringify(Object.fromEntries(described)));
