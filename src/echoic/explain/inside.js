// The inside of a text, to be looked at: no library, no request. All text is set as text, never as HTML.
"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const at = (id) => document.getElementById(id);
const make = (tag, parent, text, kind) => {
  const node = parent.appendChild(document.createElement(tag));
  if (text !== undefined) node.textContent = text;
  if (kind) node.className = kind;
  return node;
};
for (const cell of data.cells)
  for (const field of Object.values(cell.fields)) {
    const bytes = Uint8Array.from(atob(field.data), (c) => c.charCodeAt(0));
    field.numbers = new Int8Array(bytes.buffer);
  }

const T = data.tokens.length;
const state = { cell: 0, field: data.cells[0].fields.c ? "c" : data.cells[0].output, unit: 0, token: T - 1, order: [] };
const cell = () => data.cells[state.cell];
const value = (field, t, u) => (field.numbers[t * cell().units + u] / 127) * field.scale;
const number = (v) => v.toFixed(2).replace(/^-0\.00$/, "0.00").replace("-", "−");

// Colours: orange below zero, blue above; a gate goes from the page's own colour to blue.
function colour(v, scale) {
  const s = Math.min(1, Math.abs(v) / scale);
  return `rgb(var(${v < 0 ? "--against" : "--for"}) / ${s.toFixed(3)})`;
}
function rgb(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim().split(/\s+/).map(Number);
}

function sorted() {
  const units = [...Array(cell().units).keys()];
  if (at("order").value === "number") return units;
  const field = cell().fields[state.field];
  const moves = units.map((u) => {
    let total = 0;
    for (let t = 1; t < T; t++) total += Math.abs(value(field, t, u) - value(field, t - 1, u));
    return total;
  });
  return units.sort((a, b) => moves[b] - moves[a] || a - b);
}

function drawMap() {
  const field = cell().fields[state.field], units = cell().units;
  const wide = Math.max(3, Math.min(28, Math.floor(900 / T))), high = Math.max(3, Math.min(14, Math.floor(420 / units)));
  const canvas = at("map");
  canvas.width = wide * T;
  canvas.height = high * units;
  canvas.dataset.wide = wide;
  canvas.dataset.high = high;
  const pen = canvas.getContext("2d"), up = rgb("--for"), down = rgb("--against");
  state.order = sorted();
  state.order.forEach((u, row) => {
    for (let t = 0; t < T; t++) {
      const v = value(field, t, u);
      pen.fillStyle = `rgb(${(v < 0 ? down : up).join(" ")} / ${Math.min(1, Math.abs(v) / field.scale)})`;
      pen.fillRect(t * wide, row * high, wide, high);
    }
  });
  placeCross();
}

function placeCross() {
  const canvas = at("map"), wide = +canvas.dataset.wide, high = +canvas.dataset.high;
  Object.assign(at("column").style, { left: `${state.token * wide}px`, width: `${wide}px`, height: `${canvas.height}px` });
  Object.assign(at("row").style, { top: `${state.order.indexOf(state.unit) * high}px`, height: `${high}px`, width: `${canvas.width}px` });
}

const SVG = "http://www.w3.org/2000/svg";
function shape(tag, parent, attributes, text) {
  const node = parent.appendChild(document.createElementNS(SVG, tag));
  for (const [name, v] of Object.entries(attributes)) node.setAttribute(name, v);
  if (text !== undefined) node.textContent = text;
  return node;
}

// One strip for each gate and state of the picked unit.
function drawCurves() {
  const box = at("curves");
  box.replaceChildren();
  const width = 900, high = 62, left = 34;
  Object.entries(cell().fields).forEach(([name, field]) => {
    const low = field.signed ? -field.scale : 0;
    const x = (t) => left + ((width - left - 10) * (t + 0.5)) / T;
    const y = (v) => 6 + ((high - 12) * (field.scale - v)) / (field.scale - low);
    const strip = shape("svg", box, { viewBox: `0 0 ${width} ${high}`, class: "strip", role: "img", "aria-label": `${name} of unit ${state.unit}` });
    shape("path", strip, { class: "axis", d: `M${left} ${y(0)}H${width - 10}` });
    shape("text", strip, { x: 4, y: high / 2 + 4 }, name);
    for (const start of data.starts) if (start > data.first) shape("path", strip, { class: "mark", d: `M${x(start - data.first - 0.5)} 0V${high}` });
    const points = [];
    for (let t = 0; t < T; t++) points.push(`${x(t).toFixed(1)} ${y(value(field, t, state.unit)).toFixed(1)}`);
    shape("path", strip, { class: "one", d: `M${points.join("L")}` });
    const now = value(field, state.token, state.unit);
    shape("circle", strip, { class: "dot-two", cx: x(state.token), cy: y(now), r: 4 });
    shape("text", strip, { x: width - 8, y: 12, "text-anchor": "end", class: "soft" }, number(now));
    strip.addEventListener("mousemove", (event) => {
      const box = strip.getBoundingClientRect();
      const inside = ((event.clientX - box.left) / box.width) * width;
      show(Math.max(0, Math.min(T - 1, Math.floor(((inside - left) / (width - left - 10)) * T))), state.unit);
    });
  });
}

function drawText() {
  const field = cell().fields[state.field];
  at("text").querySelectorAll(".t").forEach((span, t) => {
    span.style.background = colour(value(field, t, state.unit), field.scale);
    span.classList.toggle("here", t === state.token);
  });
}

// Every gate of the token: of the picked unit, over all units, and as a row of all of them.
function drawToken() {
  const body = at("gates");
  body.replaceChildren();
  at("token").textContent = `${data.tokens[state.token].word.trim() || "(space)"} · token ${data.first + state.token + 1} of ${data.total} · unit ${state.unit}`;
  for (const [name, field] of Object.entries(cell().fields)) {
    const row = make("tr", body);
    make("th", row, name).scope = "row";
    make("td", row, number(value(field, state.token, state.unit)));
    let total = 0;
    for (let u = 0; u < cell().units; u++) total += value(field, state.token, u);
    make("td", row, number(total / cell().units));
    const canvas = make("canvas", make("td", row));
    canvas.width = 256;
    canvas.height = 14;
    const pen = canvas.getContext("2d"), up = rgb("--for"), down = rgb("--against"), wide = 256 / cell().units;
    state.order.forEach((u, i) => {
      const v = value(field, state.token, u);
      pen.fillStyle = `rgb(${(v < 0 ? down : up).join(" ")} / ${Math.min(1, Math.abs(v) / field.scale)})`;
      pen.fillRect(i * wide, 0, Math.max(1, wide), 14);
    });
  }
}

function drawAlike() {
  const found = cell().alike;
  if (!found) return;
  const lists = { highest: found.highest[state.unit], lowest: found.lowest[state.unit], nearest: found.nearest[state.token] };
  for (const [name, places] of Object.entries(lists)) {
    const list = at(name);
    list.replaceChildren();
    for (const place of places || []) {
      const item = make("li", list);
      item.dir = "auto";
      make("small", item, `${number(place.value)} · text ${place.row} `);
      make("span", item, place.before);
      make("b", item, place.token);
      make("span", item, place.after);
    }
  }
}

function show(token, unit, all) {
  if (!all && token === state.token && unit === state.unit) return;
  state.token = token;
  state.unit = unit;
  placeCross();
  drawText();
  drawToken();
  drawCurves();
  drawAlike();
}

function chosen() {
  const names = Object.keys(cell().fields);
  if (!names.includes(state.field)) state.field = cell().output;
  state.unit = Math.min(state.unit, cell().units - 1);
  const box = at("fields");
  box.replaceChildren();
  for (const name of names) {
    const button = make("button", box, name);
    button.type = "button";
    button.setAttribute("aria-pressed", name === state.field);
    button.addEventListener("click", () => {
      state.field = name;
      chosen();
    });
  }
  drawMap();
  show(state.token, state.unit, true);
}

function begin() {
  data.cells.forEach((each, i) => (make("option", at("cell"), each.name).value = i));
  at("cell").addEventListener("change", (event) => {
    state.cell = +event.target.value;
    chosen();
  });
  at("order").addEventListener("change", () => {
    drawMap();
    drawToken();
  });
  data.tokens.forEach((token, t) => {
    if (token.gap) make("i", at("text"), token.gap);
    const span = make("span", at("text"), token.word || "·", "t");
    span.addEventListener("mouseenter", () => show(t, state.unit));
    span.addEventListener("click", () => show(t, state.unit));
  });
  const canvas = at("map");
  const under = (event) => {
    const box = canvas.getBoundingClientRect();
    const t = Math.floor(((event.clientX - box.left) / box.width) * T);
    const row = Math.floor(((event.clientY - box.top) / box.height) * cell().units);
    return [Math.max(0, Math.min(T - 1, t)), state.order[Math.max(0, Math.min(cell().units - 1, row))]];
  };
  canvas.addEventListener("mousemove", (event) => show(under(event)[0], state.unit));
  canvas.addEventListener("click", (event) => show(...under(event)));
  canvas.addEventListener("keydown", (event) => {
    const row = state.order.indexOf(state.unit);
    const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!moves) return;
    event.preventDefault();
    const t = Math.max(0, Math.min(T - 1, state.token + moves[0]));
    show(t, state.order[Math.max(0, Math.min(cell().units - 1, row + moves[1]))]);
  });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", chosen);
  chosen();
  // The unit that moves most is picked first.
  at("order").value = "moves";
  drawMap();
  show(state.token, state.order[0], true);
}
begin();
