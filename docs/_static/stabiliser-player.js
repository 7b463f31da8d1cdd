/* One unit of an sLSTM over ten steps, with the stabiliser m and without it. */
"use strict";

const VALUES = [0.2, 0.8, -0.5, 0.6, 0.1, -0.9, 0.4, 0.7, -0.2, 0.5]; // z of each step
const MEMORY = { c: 0.5, n: 1 }; // before the first step, not divided by e^m

/* The cell as in cells/slstm.py, with o = 1; c and n are divided by e^m. */
function stabilised(i_pre, log_f, m0) {
  let [c, n, m] = [MEMORY.c * Math.exp(-m0), MEMORY.n * Math.exp(-m0), m0];
  return VALUES.map((z) => {
    const A = log_f + m;
    m = Math.max(A, i_pre);
    const [i, f] = [Math.exp(i_pre - m), Math.exp(A - m)];
    c = f * c + i * z;
    n = f * n + i;
    return { "i′": i, "f′": f, m, c, n, h: c / n };
  });
}

/* The equations without m, where every result is rounded to float32. */
function plain(i_pre, log_f) {
  const round = Math.fround;
  const [i, f] = [round(Math.exp(i_pre)), round(Math.exp(log_f))];
  let [c, n] = [MEMORY.c, MEMORY.n];
  return VALUES.map((z) => {
    c = round(round(f * c) + round(i * round(z)));
    n = round(round(f * n) + i);
    return { i, f, c, n, h: round(c / n) };
  });
}

function numbers(title, rows) {
  const names = Object.keys(rows[0]);
  const head = make("tr", {}, ...["t", ...names].map((name) => make("th", { scope: "col" }, name)));
  const body = rows.map((row, t) =>
    make("tr", {}, make("th", { scope: "row" }, `${t + 1}`), ...names.map((name) => cell(row[name]))),
  );
  const parts = [make("thead", {}, head), make("tbody", {}, ...body)];
  return make("table", { class: "table" }, make("caption", {}, title), ...parts);
}

/* Two panels: i′ and f′ as bars, and h with m (line) and without (squares, crosses if wrong). */
function picture(rows, bare) {
  const [left, step] = [30, 37];
  const at = (t) => left + step * (t + 0.5);
  const height = (h) => 160 - 45 * h;
  const parts = [make("text", { x: 0, y: 12 }, "i′ (left bar) and f′ (right bar)")];
  for (const y of [20, 80, 115, 160, 205])
    parts.push(make("line", { class: "axis", x1: left, x2: left + 10 * step, y1: y, y2: y }));
  for (const [y, label] of [[24, "1"], [84, "0"], [119, "1"], [164, "0"], [209, "−1"]])
    parts.push(make("text", { x: left - 6, y, "text-anchor": "end" }, label));
  parts.push(make("text", { x: 0, y: 104 }, "h with m (line), without m (squares, × if wrong)"));
  rows.forEach((row, t) => {
    for (const [name, kind, x] of [["i′", "first", at(t) - 12], ["f′", "second", at(t) + 1]]) {
      const size = 60 * row[name];
      parts.push(make("rect", { class: kind, x, y: 80 - size, width: 11, height: size }));
    }
    const [x, y] = [at(t), height(bare[t].h)];
    if (!wrong(row, bare[t]))
      parts.push(make("rect", { class: "second", x: x - 6, y: y - 6, width: 12, height: 12 }));
    else parts.push(make("path", { class: "cross", d: `M${x - 5} 200l10 10m0 -10l-10 10` }));
    parts.push(make("circle", { class: "first", cx: x, cy: height(row.h), r: 4 }));
    parts.push(make("text", { x, y: 228, "text-anchor": "middle" }, `${t + 1}`));
  });
  const line = rows.map((row, t) => `${at(t)} ${height(row.h)}`).join("L");
  parts.push(make("path", { class: "curve", d: `M${line}` }));
  return make("svg", { viewBox: "0 0 405 232", role: "img", "aria-label": "i′, f′ and h" }, ...parts);
}

function wrong(row, bare) {
  return !(Math.abs(row.h - bare.h) < 1e-3);
}

function summary(rows, bare) {
  const first = rows.findIndex((row, t) => wrong(row, bare[t]));
  if (first < 0) return "With and without m, h is the same: every number is in the range of float32.";
  const { c, n } = bare[first];
  const reason = [c, n].every(Number.isFinite) ? "too small for" : "beyond the range of";
  return `Without m, h is wrong at step ${first + 1}: c or n is ${reason} float32. With m, it is right.`;
}

function stabiliserPlayer(place) {
  const i = slider("ĩ (input gate)", [-110, 110, 1], 20, draw);
  const f = slider("f̃ (forget gate)", [-20, 20, 0.5], 10, draw);
  const m0 = slider("m₀ (stabiliser)", [-20, 20, 1], 0, draw);
  const gate = make("select", { change: draw });
  gate.append(make("option", {}, "exp"), make("option", {}, "sigmoid"));
  const said = make("p", { role: "status" });
  const shown = make("div");
  const choice = make("div", { class: "slider" }, make("label", {}, make("span", {}, "forget gate"), gate));
  place.replaceChildren(i.row, f.row, m0.row, choice, said, shown);

  function draw() {
    const pre = f.input.valueAsNumber;
    const log_f = gate.value === "exp" ? pre : logSigmoid(pre);
    const rows = stabilised(i.input.valueAsNumber, log_f, m0.input.valueAsNumber);
    const bare = plain(i.input.valueAsNumber, log_f);
    said.textContent = summary(rows, bare);
    const tables = [numbers("with m", rows), numbers("without m, in float32", bare)];
    shown.replaceChildren(picture(rows, bare), make("div", { class: "tables" }, ...tables));
  }
  draw();
}

document.querySelectorAll(".stabiliser-player").forEach(stabiliserPlayer);
