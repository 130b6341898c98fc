// What is shown, and what changes it. Everything is drawn anew from `view` after each change.

const view = {
  metric: "", value: "best", lower: true, colourBy: "", words: [], hidden: new Set(), smoothing: 0, logX: false, logY: false,
  crop: false, zoom: null, rows: "runs", sort: { id: "", sign: 1 }, theme: "light", inHand: null, pinned: null, allPanels: false, colours: null,
};
let data = null;
let chart = null;
let waiting = false;
let startOfDrag = null;
let indexInHand = null; // the point of the curve that was pointed at

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
  view.colours = colouring(data, view);
  drawColourKey(data, view);
  drawLegend(data, view, hand);
  chart = drawCurves(data, view);
  drawPanels(data, view, hand);
  drawTable(data, view, hand);
  take(view.pinned);
}

/** Holds one run up everywhere, or none; a pinned one comes back when no other is pointed at. */
function take(run, index = null, plot = null, key = "") {
  view.inHand = run ?? view.pinned;
  indexInHand = index;
  for (const tip of document.querySelectorAll(".tip")) tip.hidden = true;
  paintOver(chart, view, data.runs[view.inHand], index);
  markRows(view);
  markDots(data, view, plot, key);
}

const hand = {
  take,
  pin(run) {
    view.pinned = view.pinned === run ? null : run;
    take(view.pinned);
  },
  point: (run, plot, key) => take(run, null, plot, key),
  show(run, yes) {
    if (yes) view.hidden.delete(run);
    else view.hidden.add(run);
    redraw();
  },
  sort(id, sign) {
    view.sort = { id, sign };
    drawTable(data, view, hand);
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

/** Binds an input to what it changes. */
function bind(id, event, change) {
  byId(id).addEventListener(event, (happened) => {
    change(happened.target);
    redraw();
  });
}

function bindControls() {
  bind("metric", "change", (select) => chooseMetric(select.value));
  bind("value", "change", (select) => Object.assign(view, { value: select.value, sort: { id: "", sign: 1 } }));
  bind("colour-by", "change", (select) => (view.colourBy = select.value));
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
    if (width !== byId("chart").clientWidth) redraw(); // a phone's address bar changes the height alone
    width = byId("chart").clientWidth;
  }).observe(byId("chart"));
}

function bindChart() {
  const host = byId("chart");
  const place = (event) => [event.clientX - host.getBoundingClientRect().left, event.clientY - host.getBoundingClientRect().top];
  host.addEventListener("pointerdown", (event) => {
    if (event.pointerType === "mouse") startOfDrag = place(event);
    pointAt(...place(event));
  });
  host.addEventListener("pointermove", (event) => {
    if (startOfDrag && event.buttons) paintZoom(startOfDrag, place(event));
    else pointAt(...place(event));
  });
  host.addEventListener("pointerup", (event) => {
    if (startOfDrag && !zoomTo(startOfDrag, place(event))) {
      const found = nearestPoint(chart, view, ...place(event));
      if (found) hand.pin(found.run.index);
    }
    startOfDrag = null;
  });
  host.addEventListener("pointerleave", () => take(null));
  host.addEventListener("blur", () => take(null));
  host.addEventListener("dblclick", () => {
    view.zoom = null;
    redraw();
  });
  host.addEventListener("keydown", walkCurves);
}

function pointAt(x, y) {
  const found = nearestPoint(chart, view, x, y);
  if (found) showPoint(found.run, found.index);
  else take(null);
}

function showPoint(run, index) {
  take(run.index, index);
  const line = chart.lines.find((other) => other.run === run);
  const at = drawable(line.steps[index], line.values[index], view) ? chart.y.map(line.values[index]) : chart.box.top + 40;
  placeTip(byId("chart").querySelector(".tip"), byId("chart"), chart.x.map(line.steps[index]), at, pointWords(chart, view, run, index));
}

function walkCurves(event) {
  const moves = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], Escape: [0, 0] };
  const move = moves[event.key];
  if (!move || !chart.lines.length) return;
  event.preventDefault();
  if (event.key === "Escape") return take(null);
  const order = ranked(chart.lines.map((line) => line.run), view);
  const at = order.findIndex((run) => run.index === view.inHand);
  const run = order[at < 0 ? 0 : (at + move[1] + order.length) % order.length];
  const { steps } = chart.lines.find((line) => line.run === run);
  const before = chart.lines.find((line) => line.run.index === view.inHand);
  const step = before && indexInHand !== null ? before.steps[indexInHand] : Infinity;
  showPoint(run, Math.min(Math.max(indexNear(steps, Math.min(step, steps.at(-1))) + move[0], 0), steps.length - 1));
}

function paintZoom(from, to) {
  take(null);
  const pen = preparedCanvas(byId("chart").querySelector(".over"), chart);
  pen.fillStyle = getComputedStyle(document.documentElement).getPropertyValue("--ink");
  pen.globalAlpha = 0.12;
  pen.fillRect(from[0], from[1], to[0] - from[0], to[1] - from[1]);
}

/** Zooms to what was dragged over; whether that was more than a click. */
function zoomTo(from, to) {
  if (Math.abs(from[0] - to[0]) < 8 || Math.abs(from[1] - to[1]) < 8) return false;
  view.zoom = { x: rangeOf([from[0], to[0]].map(chart.x.invert)), y: rangeOf([from[1], to[1]].map(chart.y.invert)) };
  redraw();
  return true;
}

function describe() {
  const done = data.runs.filter((run) => run.state === "done").length;
  const states = done === data.runs.length ? "All are done" : `${done} are done, ${data.runs.length - done} not`;
  const differ = data.keys.length ? `They differ in ${data.keys.join(", ")}.` : data.runs.length > 1 ? "Their configs are the same." : "";
  const [first] = data.runs;
  byId("summary").textContent = data.runs.length === 1 ? `${first.name}, ${first.state}.` : `${states}. ${differ}`;
  byId("thinned").hidden = !data.thinned;
  byId("thinned").textContent = data.thinned ? `To keep this page small, curves of more than ${say(data.thinned)} points show the lowest and the highest of each stretch. Best and final figures are exact.` : "";
  const grouped = new Set(data.runs.map((run) => run.group)).size < data.runs.length && data.keys.includes("seed");
  byId("rows-choice").hidden = !grouped;
}

async function start() {
  data = await readData();
  view.value = "best";
  describe();
  fillSelect(byId("metric"), data.metrics.map((metric) => [metric.name, metric.name]), data.metric);
  view.colourBy = firstColourChoice(data);
  fillSelect(byId("colour-by"), colourChoices(data), view.colourBy);
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
