// node read_set.mjs DIR: reads a set of vectors with only what comes with Node, checks all files
// against the manifest, and checks the LSTM of lstm_step.mjs with every case of lstm.step.
import { createHash } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { join } from "node:path";

import { lstmStep } from "./lstm_step.mjs";

const VERSION = "2026.11";
const FOLDERS = ["inputs", "results", "bounds"];
const ITEM_SIZES = { F32: 4, F64: 8, I64: 8 };
const NAMES = { F32: "float32", F64: "float64", I64: "int64" };

function expect(condition, message) {
  if (!condition) throw new Error(message);
}

/** Returns the numbers of a tensor; whole numbers become doubles. */
function numbers(view, dtype, start, count) {
  const read = {
    F32: (at) => view.getFloat32(at, true),
    F64: (at) => view.getFloat64(at, true),
    I64: (at) => Number(view.getBigInt64(at, true)),
  }[dtype];
  return Float64Array.from({ length: count }, (_, n) => read(start + n * ITEM_SIZES[dtype]));
}

/** Reads a safetensors file: { metadata, tensors: { name: { dtype, shape, data } } }. */
export function readTensors(bytes) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  expect(bytes.length >= 8, "expected the length of a header");
  const size = Number(view.getBigUint64(0, true));
  expect(8 + size <= bytes.length, "expected a header within the file");
  const header = JSON.parse(bytes.subarray(8, 8 + size).toString("utf8"));
  const { __metadata__: metadata = {}, ...entries } = header;
  const tensors = {};
  for (const [name, { dtype, shape, data_offsets: [start, end] }] of Object.entries(entries)) {
    const count = shape.reduce((product, n) => product * n, 1);
    const fits = start >= 0 && 8 + size + end <= bytes.length;
    expect(fits && end - start === count * ITEM_SIZES[dtype], `${name}: expected its numbers`);
    tensors[name] = { dtype, shape, data: numbers(view, dtype, 8 + size + start, count) };
  }
  return { metadata, tensors };
}

/** Reads one file of a case, and compares checksum, names, shapes and dtypes with the manifest. */
function readPart(folder, entry, kind) {
  const { path, sha256 } = entry.files[kind];
  const bytes = readFileSync(join(folder, path));
  const found = createHash("sha256").update(bytes).digest("hex");
  expect(found === sha256, `${path}: expected the checksum of the manifest; got ${found}`);
  const { tensors } = readTensors(bytes);
  const described = kind === "inputs" ? entry.inputs : entry.results;
  const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
  expect(
    same(Object.keys(tensors).sort(), Object.keys(described).sort()),
    `${path}: expected the tensors of the manifest`,
  );
  for (const [name, { shape, dtype }] of Object.entries(described)) {
    const tensor = tensors[name];
    const right = same(tensor.shape, shape) && NAMES[tensor.dtype] === dtype;
    expect(right, `${path}: ${name}: expected ${dtype} [${shape}]`);
  }
  return tensors;
}

/** Returns the largest error of a tensor, divided by its bound; infinite for NaN. */
function ratio(found, expected, bound) {
  if (found === undefined || found.length !== expected.length) return Infinity;
  let largest = 0;
  expected.forEach((right, n) => {
    const error = found[n] === right ? 0 : Math.abs(found[n] - right) / bound[n];
    largest = Math.max(largest, Number.isNaN(error) ? Infinity : error);
  });
  return largest;
}

function main(folder) {
  const manifest = JSON.parse(readFileSync(join(folder, "manifest.json"), "utf8"));
  expect(manifest.version === VERSION, `expected version ${VERSION}; got ${manifest.version}`);
  const listed = new Set(manifest.cases.map((entry) => entry.id));
  expect(listed.size === manifest.cases.length, "manifest.json: expected each case once");
  for (const kind of FOLDERS) {
    const extra = readdirSync(join(folder, kind)).filter((name) => {
      return !listed.has(name.replace(/\.safetensors$/, ""));
    });
    expect(extra.length === 0, `${kind}/${extra[0]}: expected an entry in the manifest`);
  }
  let run = 0;
  let passed = 0;
  for (const entry of manifest.cases) {
    const [inputs, expected, bounds] = FOLDERS.map((kind) => readPart(folder, entry, kind));
    if (entry.subject !== "lstm.step") continue;
    const found = lstmStep(inputs);
    const wrong = Object.keys(expected).filter(
      (name) => !(ratio(found[name], expected[name].data, bounds[name].data) <= 1),
    );
    if (wrong.length > 0) console.log(`${entry.id}: ${wrong.join(", ")} wrong`);
    run += 1;
    passed += wrong.length === 0;
  }
  console.log(`${listed.size} cases read, ${passed} of ${run} of the LSTM passed`);
  return passed === run;
}

try {
  expect(process.argv.length === 3, "expected a folder: node read_set.mjs DIR");
  process.exitCode = main(process.argv[2]) ? 0 : 1;
} catch (error) {
  console.error(error.message);
  process.exitCode = 2;
}
