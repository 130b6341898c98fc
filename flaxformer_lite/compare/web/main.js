// State of the page and its controls. Everything is redrawn from `view` after each change.

const view = {
  metric: "", value: "best", lower: true, colorBy: "", words: [], hidden: new Set(), smoothing: 0, logX: false, logY: false,
  crop: false, zoom: null, rows: "runs", sort: { id: "", sign: 1 }, theme: "light", highlighted: null, pinned: null, allPanels: false, colors: null,
};
let data = null;
let chart = null;
let waiting = false;
let dragStart = null;
let highlightedPoint = null; // index of the point under the pointer

function redraw() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    drawAll();
  });
}

function drawAll() {
  document.documentElement.dataset.theme = view.theme;
  byId("theme").textContent = view.theme === "dark" ? "Light" : "Dark";
  byId("smoothing-value").textContent = view.smoothing.toFixed(2);
  byId("whole").hidden = !view.zoom;
  view.colors = coloring(data, view);
  drawColorKey(data, view);
  drawLegend(data, view, actions);
  chart = drawCurves(data, view);
  drawPanels(data, view, actions);
  drawTable(data, view, actions);
  highlight(view.pinned);
}

/** Highlights one run in all charts, or the pinned one. */
function highlight(run, index = null, plot = null, key = "") {
  view.highlighted = run ?? view.pinned;
  highlightedPoint = index;
  for (const tip of document.querySelectorAll(".tip")) tip.hidden = true;
  paintHighlight(chart, view, data.runs[view.highlighted], index);
  markRows(view);
  markDots(data, view, plot, key);
}

const actions = {
  highlight,
  pin(run) {
    view.pinned = view.pinned === run ? null : run;
    highlight(view.pinned);
  },
  point: (run, plot, key) => highlight(run, null, plot, key),
  show(run, yes) {
    if (yes) view.hidden.delete(run);
    else view.hidden.add(run);
    redraw();
  },
  sort(id, sign) {
    view.sort = { id, sign };
    drawTable(data, view, actions);
    markRows(view);
    [...document.querySelectorAll("#table th[aria-sort]:not([aria-sort=none]) button")].at(0)?.focus();
  },
  allPanels() {
    view.allPanels = true;
    redraw();
  },
};

function chooseMetric(name) {
  view.metric = name;
  view.lower = data.metrics.find((metric) => metric.name === name).lower;
  view.value = view.lower === null ? "final" : view.value;
  view.zoom = null;
  view.sort = { id: "", sign: 1 };
  const values = view.lower === null ? [["final", "final"]] : [["best", view.lower ? "best (lowest)" : "best (highest)"], ["final", "final"]];
  fillSelect(byId("value"), values, view.value);
}

function fillSelect(select, choices, chosen) {
  select.replaceChildren(...choices.map(([value, text]) => el("option", { value, selected: value === chosen }, text)));
}

/** Redraws after a change of an input. */
function bind(id, event, change) {
  byId(id).addEventListener(event, (happened) => {
    change(happened.target);
    redraw();
  });
}

function bindControls() {
  bind("metric", "change", (select) => chooseMetric(select.value));
  bind("value", "change", (select) => Object.assign(view, { value: select.value, sort: { id: "", sign: 1 } }));
  bind("color-by", "change", (select) => (view.colorBy = select.value));
  bind("filter", "input", (input) => (view.words = input.value.toLowerCase().split(/\s+/).filter(Boolean)));
  bind("smoothing", "input", (input) => (view.smoothing = Number(input.value)));
  bind("log-x", "change", (box) => Object.assign(view, { logX: box.checked, zoom: null }));
  bind("log-y", "change", (box) => Object.assign(view, { logY: box.checked, zoom: null }));
  bind("crop", "change", (box) => Object.assign(view, { crop: box.checked, zoom: null }));
  bind("whole", "click", () => (view.zoom = null));
  bind("show-all", "click", () => view.hidden.clear());
  bind("show-none", "click", () => data.runs.filter((run) => matches(run, view)).forEach((run) => view.hidden.add(run.index)));
  bind("theme", "click", () => (view.theme = view.theme === "dark" ? "light" : "dark"));
  bind("rows-choice", "change", (radio) => Object.assign(view, { rows: radio.value, sort: { id: "", sign: 1 } }));
  const dark = matchMedia("(prefers-color-scheme: dark)");
  view.theme = dark.matches ? "dark" : "light";
  dark.addEventListener("change", () => {
    view.theme = dark.matches ? "dark" : "light";
    redraw();
  });
  let width = byId("chart").clientWidth;
  new ResizeObserver(() => {
    if (width !== byId("chart").clientWidth) redraw(); // the address bar of a phone changes only the height
    width = byId("chart").clientWidth;
  }).observe(byId("chart"));
}

function bindChart() {
  const host = byId("chart");
  const place = (event) => [event.clientX - host.getBoundingClientRect().left, event.clientY - host.getBoundingClientRect().top];
  host.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "mouse") dragStart = place(event);
    pointAt(...place(event));
  });
  host.addEventListener("pointermove", (event) => {
    if (dragStart && event.buttons) paintZoom(dragStart, place(event));
    else pointAt(...place(event));
  });
  host.addEventListener("pointerup", (event) => {
    if (dragStart && !zoomTo(dragStart, place(event))) {
      const found = nearestPoint(chart, view, ...place(event));
      if (found) actions.pin(found.run.index);
    }
    dragStart = null;
  });
  host.addEventListener("pointerleave", () => highlight(null));
  host.addEventListener("blur", () => highlight(null));
  host.addEventListener("dblclick", () => {
    view.zoom = null;
    redraw();
  });
  host.addEventListener("keydown", moveByKey);
}

function pointAt(x, y) {
  const found = nearestPoint(chart, view, x, y);
  if (found) showPoint(found.run, found.index);
  else highlight(null);
}

function showPoint(run, index) {
  highlight(run.index, index);
  const line = chart.lines.find((other) => other.run === run);
  const at = drawable(line.steps[index], line.values[index], view) ? chart.y.map(line.values[index]) : chart.box.top + 40;
  placeTip(byId("chart").querySelector(".tip"), byId("chart"), chart.x.map(line.steps[index]), at, pointTip(chart, view, run, index));
}

function moveByKey(event) {
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], Escape: [0, 0] };
  const move = moves[event.key];
  if (!move || !chart.lines.length) return;
  event.preventDefault();
  if (event.key === "Escape") return highlight(null);
  const order = ranked(chart.lines.map((line) => line.run), view);
  const at = order.findIndex((run) => run.index === view.highlighted);
  const run = order[at < 0 ? 0 : (at + move[1] + order.length) % order.length];
  const { steps } = chart.lines.find((line) => line.run === run);
  const before = chart.lines.find((line) => line.run.index === view.highlighted);
  const step = before && highlightedPoint !== null ? before.steps[highlightedPoint] : Infinity;
  showPoint(run, Math.min(Math.max(indexNear(steps, Math.min(step, steps.at(-1))) + move[0], 0), steps.length - 1));
}

function paintZoom(from, to) {
  highlight(null);
  const context = preparedCanvas(byId("chart").querySelector(".over"), chart);
  context.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--ink");
  context.globalAlpha = 0.12;
  context.fillRect(from[0], from[1], to[0] - from[0], to[1] - from[1]);
}

/** Zooms to the dragged rectangle; returns whether it was more than a click. */
function zoomTo(from, to) {
  if (Math.abs(from[0] - to[0]) < 8 || Math.abs(from[1] - to[1]) < 8) return false;
  view.zoom = { x: rangeOf([from[0], to[0]].map(chart.x.invert)), y: rangeOf([from[1], to[1]].map(chart.y.invert)) };
  redraw();
  return true;
}

function describe() {
  const done = data.runs.filter((run) => run.state === "done").length;
  const states = done === data.runs.length ? "All are done" : `${done} are done, ${data.runs.length - done} are not`;
  const differ = data.keys.length ? `They differ in ${data.keys.join(", ")}.` : data.runs.length > 1 ? "Their configs are the same." : "";
  const [first] = data.runs;
  byId("summary").textContent = data.runs.length === 1 ? `${first.name}, ${first.state}.` : `${states}. ${differ}`;
  byId("thinned").hidden = !data.thinned;
  byId("thinned").textContent = data.thinned ? `To keep this page small, curves of more than ${formatNumber(data.thinned)} points show the minimum and maximum of each segment. Best and final values are exact.` : "";
  const grouped = new Set(data.runs.map((run) => run.group)).size < data.runs.length && data.keys.includes("seed");
  byId("rows-choice").hidden = !grouped;
}

async function start() {
  data = await readData();
  view.value = "best";
  describe();
  fillSelect(byId("metric"), data.metrics.map((metric) => [metric.name, metric.name]), data.metric);
  view.colorBy = firstColorChoice(data);
  fillSelect(byId("color-by"), colorChoices(data), view.colorBy);
  chooseMetric(data.metric);
  bindControls();
  bindChart();
  drawAll();
  document.documentElement.dataset.ready = Math.round(performance.now());
}

start().catch((error) => {
  byId("failure").hidden = false;
  byId("failure").textContent = `This page could not be drawn (${error.message}); it needs a browser of 2023 or later.`;
  console.error(error);
});
