/* The memory of one mLSTM head: write values under keys, and read with a query. */
"use strict";

const WIDTH = 4; // of keys, queries and values
const INDICES = [...Array(WIDTH).keys()];

const dot = (a, b) => a.reduce((sum, x, j) => sum + x * b[j], 0);
const listed = (vector) => `(${vector.map(number).join(", ")})`;

function empty() {
  return { C: INDICES.map(() => INDICES.map(() => 0)), n: INDICES.map(() => 0), m: -Infinity };
}

/* The memory after one step, as in cells/mlstm.py with an exponential forget gate. */
function written({ C, n, m: before }, k, v, i_pre, f_pre) {
  const A = f_pre + before;
  const m = Math.max(A, i_pre);
  const [i, f] = [Math.exp(i_pre - m), Math.exp(A - m)];
  return {
    C: INDICES.map((a) => INDICES.map((b) => f * C[a][b] + i * k[a] * v[b])),
    n: INDICES.map((a) => f * n[a] + i * k[a]),
    m,
  };
}

/* The output h̃ = Cᵀq / max(|q·n|, e^−m). */
function read({ C, n, m }, q) {
  const den = Math.max(Math.abs(dot(q, n)), Math.exp(-m));
  return INDICES.map((b) => dot(q, C.map((row) => row[b])) / den);
}

/* Show a number on a background of blue above 0, of orange below. */
function show(td, x, most) {
  const share = Math.round((50 * Math.abs(x)) / most);
  const colour = `var(--${x < 0 ? "second" : "first"})`;
  td.style.background = `color-mix(in srgb, ${colour} ${share}%, transparent)`;
  td.dataset.value = x;
  td.textContent = number(x);
}

function memoryPlayer(place) {
  const vectors = { k: [1, 0, 0, 0], q: [1, 0, 0, 0], v: [1, -1, 1, 0] };
  let memory = empty();
  let pairs = [];
  const i = slider("ĩ (input gate)", [-3, 6, 0.5], 0, () => {});
  const f = slider("f̃ (forget gate)", [-3, 0, 0.1], 0, () => {});
  const table = make("table", { class: "memory" });
  const said = make("p", { role: "status" });
  const list = make("ol");
  const write = () => {
    const [k, v] = [[...vectors.k], [...vectors.v]];
    memory = written(memory, k, v, i.input.valueAsNumber, f.input.valueAsNumber);
    pairs.push({ k, v });
    draw();
  };
  const clear = () => {
    memory = empty();
    pairs = [];
    draw();
  };
  const buttons = make("p", {}, make("button", { type: "button", click: write }, "Write v under k"));
  buttons.append(" ", make("button", { type: "button", click: clear }, "Empty the memory"));
  place.replaceChildren(i.row, f.row, buttons, table, said, list);

  /* The elements of k, q and v are buttons that go through 0, 1 and −1. */
  const elements = {};
  for (const name of ["k", "q", "v"])
    elements[name] = INDICES.map((a) => {
      const button = make("button", { type: "button" });
      button.addEventListener("click", () => {
        vectors[name][a] = { 0: 1, 1: -1, [-1]: 0 }[vectors[name][a]];
        draw();
      });
      return button;
    });
  const holder = (name, a) => make("td", {}, elements[name][a]);
  const shownC = INDICES.map(() => INDICES.map(() => make("td")));
  const shownN = INDICES.map(() => make("td"));
  const shownH = INDICES.map(() => make("td"));
  const head = (text, attributes = {}) => make("th", attributes, text);
  table.append(
    make("tr", {}, head("k"), head("q"), head("memory C", { colspan: WIDTH }), head("n")),
    make("tr", {}, head("v", { colspan: 2 }), ...INDICES.map((b) => holder("v", b)), make("td")),
    ...INDICES.map((a) =>
      make("tr", {}, holder("k", a), holder("q", a), ...shownC[a], shownN[a]),
    ),
    make("tr", {}, head("h̃", { colspan: 2 }), ...shownH),
  );

  function draw() {
    for (const [name, buttons] of Object.entries(elements))
      buttons.forEach((button, a) => {
        button.textContent = number(vectors[name][a]);
        button.setAttribute("aria-label", `${name}, element ${a + 1}: ${vectors[name][a]}`);
      });
    const most = Math.max(1, ...memory.C.flat().map(Math.abs), ...memory.n.map(Math.abs));
    shownC.forEach((row, a) => row.forEach((td, b) => show(td, memory.C[a][b], most)));
    shownN.forEach((td, a) => show(td, memory.n[a], most));
    const h = read(memory, vectors.q);
    shownH.forEach((td, b) => show(td, h[b], 1));
    const m = make("span", { "data-value": memory.m }, number(memory.m));
    const result = `q·n = ${number(dot(vectors.q, memory.n))}, h̃ = ${listed(h)}.`;
    said.replaceChildren(`Written: ${pairs.length}. C and n are divided by e^m, m = `, m, `. ${result}`);
    list.replaceChildren(...pairs.map(({ k, v }) =>
      make("li", {}, `k = ${listed(k)}, v = ${listed(v)}; with q = k one reads ${listed(read(memory, k))}`),
    ));
  }
  draw();
}

document.querySelectorAll(".memory-player").forEach(memoryPlayer);
