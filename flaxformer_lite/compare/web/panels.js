// The metric against each differing setting: small charts with a common vertical axis.

const PANELS_AT_FIRST = 12;

function drawPanels(data, view, actions) {
  const host = byId("panels");
  const keys = panelKeys(data);
  byId("panels-section").hidden = !keys.length;
  const runs = data.runs.filter((run) => shown(run, view) && figure(run, view) !== null);
  const kept = view.allPanels ? keys : keys.slice(0, PANELS_AT_FIRST);
  host.replaceChildren(...kept.map((key) => el("figure", { class: "panel" }, el("figcaption", {}, key), el("div", { class: "plot" }))));
  if (kept.length < keys.length) host.append(el("button", { type: "button", onclick: actions.allPanels }, `Show all ${keys.length}`));
  kept.forEach((key, i) => drawPanel(host.children[i].lastChild, key, runs, data, view, actions));
}

/** The seed is a panel only where runs differ in nothing else. */
function panelKeys(data) {
  const keys = data.keys.filter((key) => key !== "seed");
  return keys.length ? keys : data.keys;
}

function drawPanel(plot, key, runs, data, view, actions) {
  const width = plot.clientWidth;
  const height = plot.clientHeight;
  const having = runs.filter((run) => run.settings[key] !== undefined && run.settings[key] !== null);
  if (!having.length) {
    plot.append(el("p", { class: "empty" }, "No run that is shown has a figure here."));
    return;
  }
  const figures = runs.map((run) => figure(run, view));
  const log = view.logY && figures.every((x) => x > 0);
  const box = { width, left: 0, right: width - 12, top: 8, bottom: height - 26 };
  const y = (log ? logScale : linearScale)(widened(rangeOf(figures), log, 0.08), [box.bottom, box.top], (box.bottom - box.top) / 36);
  box.left = leftMargin(y);
  const x = settingScale(spreadOf(data.runs, key), box);
  const svg = svgEl("svg", { tabindex: "0", role: "group", "aria-label": `${view.metric} against ${key}; left and right go from run to run` });
  drawAxes(svg, box, x, y, "");
  drawMeans(svg, key, having, x, y, view);
  const ordered = [...having].sort((a, b) => compareNumbers(x.map(a.settings[key]), x.map(b.settings[key])) || a.index - b.index);
  const radius = having.length > 40 ? 3.2 : 4.2;
  for (const [run, cx, cy] of spreadDots(ordered, (run) => [x.map(run.settings[key]), y.map(figure(run, view))], radius)) {
    svg.append(svgEl("circle", { class: "dot", "data-run": run.index, fill: view.colors.of(run), cx, cy, r: radius }));
  }
  svg.addEventListener("pointermove", (event) => actions.point(nearestDot(svg, event), plot, key));
  svg.addEventListener("pointerdown", (event) => actions.point(nearestDot(svg, event), plot, key));
  svg.addEventListener("pointerleave", () => actions.point(null, plot, key));
  svg.addEventListener("blur", () => actions.point(null, plot, key));
  svg.addEventListener("keydown", (event) => {
    const move = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!move) return;
    event.preventDefault();
    const at = ordered.findIndex((run) => run.index === view.highlighted);
    actions.point(ordered[(at + move + ordered.length) % ordered.length].index, plot, key);
  });
  plot.append(svg, el("div", { class: "tip", role: "status", hidden: true }));
}

function settingScale({ values, log, categories }, box) {
  const places = [box.left, box.right];
  if (categories) return categoryScale(values, places);
  const inner = [box.left + 24, box.right - 20];
  const scale = (log ? logScale : linearScale)(rangeOf(values), inner, (box.right - box.left) / 60);
  // Few values are their own ticks, so that 512 is not read off between 400 and 600.
  if (values.length <= 6) scale.ticks = values.map((value) => ({ at: value, text: formatSetting(value) }));
  return scale;
}

/** Positions of dots; overlapping ones are moved sideways. */
function spreadDots(runs, placeOf, radius) {
  const placed = [];
  for (const run of runs) {
    const [x, y] = placeOf(run);
    const free = (at) => placed.every(([, otherX, otherY]) => Math.hypot(otherX - at, otherY - y) >= 1.7 * radius);
    const aside = [0, 1, -1, 2, -2, 3, -3, 4, -4].map((times) => x + times * 0.9 * radius);
    placed.push([run, aside.find(free) ?? x, y]);
  }
  return placed;
}

/** Draws the mean of the runs at each value that several share. */
function drawMeans(svg, key, runs, x, y, view) {
  const shared = Map.groupBy ? Map.groupBy(runs, (run) => run.settings[key]) : groupedBy(runs, key);
  for (const [value, members] of shared) {
    if (members.length < 2) continue;
    const place = x.map(value);
    const height = y.map(mean(members.map((run) => figure(run, view))));
    svg.append(svgEl("line", { class: "mean", x1: place - 18, x2: place + 18, y1: height, y2: height }));
  }
}

function groupedBy(runs, key) {
  const groups = new Map();
  for (const run of runs) groups.set(run.settings[key], [...(groups.get(run.settings[key]) ?? []), run]);
  return groups;
}

function nearestDot(svg, event) {
  const frame = svg.getBoundingClientRect();
  let nearest = null;
  let reach = 24;
  for (const circle of svg.querySelectorAll(".dot")) {
    const distance = Math.hypot(circle.getAttribute("cx") - event.clientX + frame.left, circle.getAttribute("cy") - event.clientY + frame.top);
    if (distance < reach) [nearest, reach] = [Number(circle.dataset.run), distance];
  }
  return nearest;
}

/** Marks the dots of the highlighted run, with a tooltip in the panel under the pointer. */
function markDots(data, view, plot, key) {
  for (const circle of document.querySelectorAll("#panels .dot")) {
    const lifted = Number(circle.dataset.run) === view.highlighted;
    circle.classList.toggle("lifted", lifted);
    circle.classList.toggle("lowered", view.highlighted !== null && !lifted);
    if (!lifted || circle.closest(".plot") !== plot) continue;
    const run = data.runs[view.highlighted];
    const rows = [[key, formatSetting(run.settings[key])], [`${view.metric}, ${view.value}`, formatNumber(figure(run, view), 5)]];
    placeTip(plot.querySelector(".tip"), plot, Number(circle.getAttribute("cx")), Number(circle.getAttribute("cy")), tipOf(run, view, rows));
  }
}
