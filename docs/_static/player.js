/* Parts that the players of the site share: elements, sliders and numbers. */
"use strict";

const SVG = ["svg", "rect", "path", "circle", "line", "text"];

/* Make an element. An attribute that is a function is a listener. */
function make(name, attributes = {}, ...children) {
  const element = SVG.includes(name)
    ? document.createElementNS("http://www.w3.org/2000/svg", name)
    : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(key, value);
    else element.setAttribute(key, value);
  }
  element.append(...children);
  return element;
}

/* A slider with its name and its value; `input.valueAsNumber` is the number. */
function slider(name, [min, max, step], value, change) {
  const input = make("input", { type: "range", min, max, step, value });
  const shown = make("b", { "aria-hidden": "true" }, number(value)); // the slider says it
  input.addEventListener("input", () => {
    shown.textContent = number(input.valueAsNumber);
    change();
  });
  const label = make("label", {}, make("span", {}, name), input);
  return { input, row: make("div", { class: "slider" }, label, shown) };
}

/* A number in at most seven characters. */
function number(x) {
  if (Number.isNaN(x)) return "NaN";
  if (!Number.isFinite(x)) return x < 0 ? "−∞" : "∞";
  const size = Math.abs(x);
  const far = size !== 0 && (size < 0.001 || size >= 1000);
  const text = far ? x.toExponential(1).replace("e+", "e") : String(Number(x.toPrecision(3)));
  return text.replaceAll("-", "−");
}

/* A cell of a table: the number as a reader sees it, and exactly for a program. */
function cell(x) {
  return make("td", { "data-value": x }, number(x));
}

function logSigmoid(x) {
  return Math.min(x, 0) - Math.log1p(Math.exp(-Math.abs(x)));
}
