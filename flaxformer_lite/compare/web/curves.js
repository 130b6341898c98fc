// Learning curves on a canvas; the highlighted one is drawn on a second canvas above it.

const RAW_LIMIT = 12; // up to this many smoothed curves also show their raw values
const DOTTED_LIMIT = 25; // curves with up to this many points show a dot at each

/** Redraws the chart and returns what pointer events need. */
function drawCurves(data, view) {
  const host = byId("chart");
  const lines = data.runs.filter((run) => shown(run, view) && run.curves.has(view.metric)).map((run) => lineOf(run, view));
  const usable = lines.flatMap((line) => usablePoints(line, view));
  const empty = host.querySelector(".empty");
  empty.hidden = usable.length > 0;
  empty.textContent = emptyMessage(data, view, lines);
  const chart = { lines: usable.length ? lines : [], host };
  Object.assign(chart, frameOf(host, usable, view));
  if (usable.length) drawAxes(host.querySelector("svg"), chart.box, chart.x, chart.y, "step");
  else host.querySelector("svg").replaceChildren();
  paintLines(host.querySelector(".lines"), chart, view);
  return chart;
}

function lineOf(run, view) {
  const curve = run.curves.get(view.metric);
  return { run, steps: curve.steps, raw: curve.values, values: smooth(curve.values, view.smoothing) };
}

function emptyMessage(data, view, lines) {
  if (lines.length) return "No points that can be drawn: none is finite, or none is positive on a logarithmic axis.";
  const having = data.runs.filter((run) => run.curves.has(view.metric)).length;
  return having ? "All runs that have this metric are hidden or filtered away." : "No run has points of this metric.";
}

/** Pairs of step and value that can be drawn on the axes. */
function usablePoints(line, view) {
  const points = [];
  for (let i = 0; i < line.steps.length; i++) {
    if (drawable(line.steps[i], line.values[i], view)) points.push([line.steps[i], line.values[i]]);
  }
  return points;
}

function drawable(step, value, view) {
  return Number.isFinite(value) && (value > 0 || !view.logY) && (step > 0 || !view.logX);
}

function frameOf(host, points, view) {
  const width = host.clientWidth;
  const height = host.clientHeight;
  const steps = points.length ? rangeOf(points.map((point) => point[0])) : [1, 10];
  let values = points.map((point) => point[1]);
  if (view.crop && values.length > 20) {
    values.sort(compareNumbers);
    values = [values[Math.floor(values.length * 0.01)], values[Math.ceil(values.length * 0.99) - 1]];
  }
  const xRange = view.zoom?.x ?? (steps[0] === steps[1] ? widened(steps, view.logX, 0) : steps);
  const yRange = view.zoom?.y ?? (values.length ? widened(rangeOf(values), view.logY, 0.04) : [0.1, 1]);
  const box = { width, left: 0, right: width - 14, top: 10, bottom: height - 44 };
  const y = (view.logY ? logScale : linearScale)(yRange, [box.bottom, box.top], (box.bottom - box.top) / 55);
  box.left = leftMargin(y);
  const x = (view.logX ? logScale : linearScale)(xRange, [box.left, box.right], (box.right - box.left) / 90);
  return { box, x, y };
}

/** The context of a cleared canvas at screen resolution, clipped to the axes. */
function preparedCanvas(canvas, chart) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.round(chart.host.clientWidth * ratio);
  canvas.height = Math.round(chart.host.clientHeight * ratio);
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  context.beginPath();
  context.rect(chart.box.left, chart.box.top - 4, chart.box.right - chart.box.left + 6, chart.box.bottom - chart.box.top + 4);
  context.clip();
  context.lineJoin = context.lineCap = "round";
  return context;
}

function paintLines(canvas, chart, view) {
  const context = preparedCanvas(canvas, chart);
  const many = chart.lines.length > RAW_LIMIT;
  for (const line of chart.lines) {
    context.strokeStyle = context.fillStyle = view.colors.of(line.run);
    if (view.smoothing && !many) paintLine(context, chart, view, line.steps, line.raw, 1, 0.22);
    paintLine(context, chart, view, line.steps, line.values, many ? 1.1 : 1.8, many ? 0.75 : 1);
  }
}

function paintLine(context, chart, view, steps, values, width, opacity) {
  const path = new Path2D();
  const dots = new Path2D(); // of short curves, and of points without a neighbor to connect to
  const usable = (i) => i >= 0 && i < steps.length && drawable(steps[i], values[i], view);
  for (let i = 0; i < steps.length; i++) {
    if (!usable(i)) continue; // leaves a gap
    const x = chart.x.map(steps[i]);
    const y = chart.y.map(values[i]);
    if (usable(i - 1)) path.lineTo(x, y);
    else path.moveTo(x, y);
    if (steps.length <= DOTTED_LIMIT || !(usable(i - 1) || usable(i + 1))) addDot(dots, x, y, width + 0.8);
  }
  context.lineWidth = width;
  context.globalAlpha = opacity;
  context.stroke(path);
  context.fill(dots);
  context.globalAlpha = 1;
}

function addDot(path, x, y, radius) {
  path.moveTo(x + radius, y);
  path.arc(x, y, radius, 0, 2 * Math.PI);
}

/** Draws the highlighted run above the others, which fade. */
function paintHighlight(chart, view, run, index) {
  const context = preparedCanvas(chart.host.querySelector(".over"), chart);
  const line = chart.lines.find((other) => other.run === run);
  chart.host.classList.toggle("faded", Boolean(line));
  if (!line) return;
  const surface = getComputedStyle(document.documentElement).getPropertyValue("--surface");
  context.strokeStyle = context.fillStyle = surface;
  paintLine(context, chart, view, line.steps, line.values, 6, 0.9);
  context.strokeStyle = context.fillStyle = view.colors.of(run);
  if (view.smoothing) paintLine(context, chart, view, line.steps, line.raw, 1, 0.35);
  paintLine(context, chart, view, line.steps, line.values, line.steps.length > 300 ? 1.8 : 2.6, 1);
  if (index === null || !drawable(line.steps[index], line.values[index], view)) return;
  for (const [radius, color] of [[7, surface], [4.5, view.colors.of(run)]]) {
    context.fillStyle = color;
    const point = new Path2D();
    addDot(point, chart.x.map(line.steps[index]), chart.y.map(line.values[index]), radius);
    context.fill(point);
  }
}

/** The nearest point of a curve to a position in pixels (run, index, distance), or null. */
function nearestPoint(chart, view, x, y, reach = 40) {
  let nearest = null;
  for (const line of chart.lines) {
    const middle = indexNear(line.steps, chart.x.invert(x));
    for (let i = Math.max(0, middle - 3); i < Math.min(line.steps.length, middle + 4); i++) {
      if (!drawable(line.steps[i], line.values[i], view)) continue;
      const place = [chart.x.map(line.steps[i]), chart.y.map(line.values[i])];
      let distance = Math.hypot(place[0] - x, place[1] - y);
      if (i && drawable(line.steps[i - 1], line.values[i - 1], view)) {
        const before = [chart.x.map(line.steps[i - 1]), chart.y.map(line.values[i - 1])];
        distance = Math.min(distance, distanceToSegment([x, y], before, place));
      }
      if (distance < (nearest?.distance ?? reach)) nearest = { run: line.run, index: indexNear(line.steps, chart.x.invert(x)), distance };
    }
  }
  return nearest;
}

function distanceToSegment([x, y], [x1, y1], [x2, y2]) {
  const length = (x2 - x1) ** 2 + (y2 - y1) ** 2;
  const share = length ? Math.min(1, Math.max(0, ((x - x1) * (x2 - x1) + (y - y1) * (y2 - y1)) / length)) : 0;
  return Math.hypot(x1 + share * (x2 - x1) - x, y1 + share * (y2 - y1) - y);
}

/** The index of the nearest step in an increasing array. */
function indexNear(steps, step) {
  let low = 0;
  let high = steps.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (steps[middle] < step) low = middle;
    else high = middle;
  }
  return Math.abs(steps[low] - step) <= Math.abs(steps[high] - step) ? low : high;
}

/** Tooltip of a point of a curve. */
function pointTip(chart, view, run, index) {
  const line = chart.lines.find((other) => other.run === run);
  const rows = [["step", formatNumber(line.steps[index], 9)], [view.metric, formatNumber(line.raw[index], 5)]];
  if (view.smoothing) rows.push(["smoothed", formatNumber(line.values[index], 5)]);
  return tipOf(run, view, rows);
}

function tipOf(run, view, rows) {
  const list = el("dl", {}, ...rows.flatMap(([name, text]) => [el("dt", {}, name), el("dd", {}, text)]));
  return [el("b", {}, swatch(view.colors.of(run)), ...breakable(run.name)), list];
}
