// Colors of runs: a palette for few, a ramp for many whose lightness shows the order without its hue.

const PALETTE = {
  light: ["#1056b5", "#b93c12", "#12a48a", "#c9831a", "#9972d3", "#242a6b", "#6b0020", "#754a6d"],
  dark: ["#48c2ff", "#ef9d46", "#a0f3d9", "#a66ad5", "#fde16d", "#c26221", "#3e917b", "#b5a8b3"],
};
const RAMPS = {
  light: ["#31105e", "#34409a", "#106a85", "#2c8048", "#bf8400"],
  dark: ["#8467dc", "#5b9cf0", "#35c3c4", "#7bd65a", "#f2e34a"],
};

/** The color at position 0 to 1 of the ramp. */
function ramp(place, theme) {
  const stops = RAMPS[theme];
  const at = Math.min(Math.max(place, 0), 1) * (stops.length - 1);
  const left = Math.min(Math.floor(at), stops.length - 2);
  const part = (stop, i) => parseInt(stop.slice(1 + 2 * i, 3 + 2 * i), 16);
  const mix = [0, 1, 2].map((i) => Math.round(part(stops[left], i) + (at - left) * (part(stops[left + 1], i) - part(stops[left], i))));
  return `rgb(${mix.join(",")})`;
}

/** Values and labels of the choices that runs may be colored by. */
function colorChoices(data) {
  const keys = data.keys.map((key) => [key, key]);
  return [...(data.runs.length <= PALETTE.light.length ? [["run", "run"]] : []), ...keys, ["value", "value of the metric"]];
}

/** By run where there are few, otherwise by the setting with the most values. */
function firstColorChoice(data) {
  if (data.runs.length <= PALETTE.light.length) return "run";
  const counts = data.keys.filter((key) => key !== "seed").map((key) => [spreadOf(data.runs, key).values.length, key]);
  return counts.sort((a, b) => b[0] - a[0])[0]?.[1] ?? "value";
}

/** A function from runs to colors, with its legend: swatches, or the labels at the ends of the ramp. */
function coloring(data, view) {
  const none = view.theme === "dark" ? "#7b8088" : "#8b8f96";
  const palette = PALETTE[view.theme];
  if (view.colorBy === "run") return { of: (run) => palette[run.index], swatches: [] };
  if (view.colorBy === "value") return byNumber(data.runs, (run) => figure(run, view), view, none);
  const { values, numeric, log } = spreadOf(data.runs, view.colorBy);
  const setting = (run) => run.settings[view.colorBy] ?? null;
  if (numeric && values.length > 8) return byNumber(data.runs, setting, view, none, log);
  const order = new Map(values.map((value, i) => [JSON.stringify(value), i]));
  const ordered = (numeric && values.length > 2) || values.length > palette.length;
  const color = (i) => (ordered ? ramp(i / Math.max(1, values.length - 1), view.theme) : palette[i]);
  const swatches = values.map((value, i) => [color(i), formatSetting(value)]);
  return { of: (run) => (setting(run) === null ? none : color(order.get(JSON.stringify(setting(run))))), swatches };
}

function byNumber(runs, number, view, none, log = logSpread([...new Set(runs.map(number).filter(Number.isFinite))])) {
  const [low, high] = rangeOf(runs.map(number).filter(Number.isFinite));
  const spread = log ? Math.log : (x) => x;
  const place = (x) => (high > low ? (spread(x) - spread(low)) / (spread(high) - spread(low)) : 0);
  return { of: (run) => (Number.isFinite(number(run)) ? ramp(place(number(run)), view.theme) : none), swatches: [], ends: low <= high ? [formatNumber(low), formatNumber(high)] : [] };
}

function drawColorKey(data, view) {
  const { swatches, ends } = view.colors;
  const title = view.colorBy === "value" ? `${view.metric}, ${view.value}` : view.colorBy;
  const parts = swatches.slice(0, 16).map(([color, text]) => el("span", { class: "swatch-text" }, swatch(color), el("span", { class: "word" }, text)));
  if (swatches.length > 16) parts.push(el("span", {}, `… ${swatches.length - 16} more`));
  if (ends?.length) {
    const bar = el("span", { class: "ramp" });
    bar.style.background = `linear-gradient(90deg, ${RAMPS[view.theme].join(",")})`;
    parts.push(el("span", { class: "swatch-text" }, ends[0], bar, ends[1]));
  }
  byId("color-key").hidden = !parts.length;
  byId("color-key").replaceChildren(el("b", {}, title), ...parts);
}

function swatch(color) {
  const mark = el("span", { class: "swatch" });
  mark.style.background = color;
  return mark;
}
