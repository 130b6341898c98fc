// Number formats and scales.

const MINUS = "\u2212";

/** A number with some significant digits; thousands are rounded to integers. */
function formatNumber(value, digits = 4) {
  if (value === null || value === undefined) return "–";
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "not a number" : value > 0 ? "∞" : `${MINUS}∞`;
  const size = Math.abs(value);
  if (size >= 1e7 || (size > 0 && size < 1e-3)) return formatPower(value, digits);
  const options = size >= 1000 ? { maximumFractionDigits: 0 } : { maximumSignificantDigits: digits };
  return value.toLocaleString("en-US", options).replace("-", MINUS);
}

/** A format with equal decimals for all numbers of a column, and `digits` significant ones at the median. */
function columnFormat(values, digits) {
  const sizes = values.filter((x) => Number.isFinite(x) && x !== 0).map(Math.abs).sort(compareNumbers);
  const middling = sizes[sizes.length >> 1] ?? 1;
  const decimals = Math.min(10, Math.max(0, digits - 1 - Math.floor(Math.log10(middling))));
  return (value) => {
    if (!Number.isFinite(value) || Math.abs(value) >= 1e7 || middling < 1e-3) return formatNumber(value, digits);
    return value.toLocaleString("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals }).replace("-", MINUS);
  };
}

function formatPower(value, digits) {
  const [figures, power] = value.toExponential(digits - 1).split("e");
  return `${Number(figures)}e${Number(power)}`.replaceAll("-", MINUS);
}

/** A config value as an override would write it. */
function formatSetting(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "number") return Math.abs(value) >= 1e5 || (value && Math.abs(value) < 1e-4) ? value.toExponential().replace("e+", "e") : String(value);
  if (Array.isArray(value)) return value.length ? value.map(formatSetting).join(", ") : "()";
  return value === "" ? "“”" : String(value);
}

/** The shortest unambiguous label of a tick. */
function formatTick(value, gap) {
  const size = Math.abs(value);
  if (size >= 1e4 && Number.isInteger(gap)) {
    const [unit, letter] = size >= 1e9 ? [1e9, "G"] : size >= 1e6 ? [1e6, "M"] : [1e3, "k"];
    return `${Number((value / unit).toPrecision(6))}${letter}`.replace("-", MINUS);
  }
  if (value && (size < 1e-3 || size >= 1e7)) return formatPower(value, 3);
  const decimals = gap ? Math.min(12, Math.max(0, -Math.floor(Math.log10(gap) + 1e-9))) : 0;
  return (gap ? value.toFixed(decimals) : String(Number(value.toPrecision(6)))).replace("-", MINUS);
}

/** Maps low…high to pixels from…to, with about `count` ticks. */
function linearScale([low, high], [from, to], count) {
  const factor = (to - from) / (high - low || 1);
  const rough = (high - low) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough));
  const gap = power * [1, 2, 5, 10].find((times) => power * times >= rough * 0.999);
  const ticks = [];
  if (!Number.isFinite(gap)) return { low, high, map: () => from, invert: () => low, ticks };
  for (let i = Math.ceil(low / gap - 1e-9); i * gap <= high + 1e-9 * gap; i++) ticks.push({ at: i * gap, text: formatTick(i * gap, gap) });
  return { low, high, map: (x) => from + (x - low) * factor, invert: (place) => low + (place - from) / factor, ticks };
}

/** The same on a logarithmic axis. */
function logScale([low, high], [from, to], count) {
  const inner = linearScale([Math.log10(low), Math.log10(high)], [from, to], count);
  const decades = Math.log10(high / low);
  const every = Math.max(1, Math.ceil(decades / Math.max(1, count)));
  const ticksAt = (figures) => {
    const ticks = [];
    for (let power = Math.floor(Math.log10(low)); power <= Math.log10(high); power++) {
      if (((power % every) + every) % every) continue;
      for (const times of figures) {
        const at = Number(`${times}e${power}`);
        if (at >= low * 0.9999 && at <= high * 1.0001) ticks.push({ at, text: formatTick(at, at >= 1e4 ? 1 : 0) });
      }
    }
    return ticks;
  };
  const choices = [[1], [1, 3], [1, 2, 5], [1, 2, 3, 5, 7]].map(ticksAt);
  const fitting = choices.filter((ticks) => ticks.length >= 3 && ticks.length <= Math.max(4, count)).at(-1);
  const ticks = fitting ?? linearScale([low, high], [from, to], count).ticks.filter((tick) => tick.at > 0);
  return { low, high, map: (x) => inner.map(Math.log10(x)), invert: (place) => 10 ** inner.invert(place), ticks };
}

/** Evenly spaced positions of categorical values. */
function categoryScale(values, [from, to]) {
  const band = (to - from) / values.length;
  const places = new Map(values.map((value, i) => [JSON.stringify(value), from + band * (i + 0.5)]));
  const every = Math.max(1, Math.ceil(26 / band));
  const ticks = values.map((value) => ({ at: value, text: formatSetting(value) })).filter((_, i) => i % every === 0);
  return { band: band * every, map: (x) => places.get(JSON.stringify(x)), ticks };
}

/** Extends a range on both sides, so that no point is on the frame. */
function widened([low, high], log, share) {
  if (low === high) return log ? [low / 1.5, high * 1.5] : [low - (Math.abs(low) * 0.1 || 1), high + (Math.abs(high) * 0.1 || 1)];
  if (log) return [low / (high / low) ** share, high * (high / low) ** share];
  return [low - (high - low) * share, high + (high - low) * share];
}

function rangeOf(numbers) {
  let low = Infinity;
  let high = -Infinity;
  for (const x of numbers) {
    if (x < low) low = x;
    if (x > high) high = x;
  }
  return [low, high];
}

/** Whether numbers are spaced more like 1, 10, 100 than like 1, 2, 3. */
function logSpread(values) {
  const [low, high] = rangeOf(values);
  if (low <= 0 || values.length < 3) return false;
  if (high / low >= 50) return true;
  const variation = (numbers) => {
    const gaps = numbers.slice(1).map((x, i) => x - numbers[i]);
    return deviation(gaps) / mean(gaps);
  };
  const sorted = [...values].sort(compareNumbers);
  return high / low >= 4 && variation(sorted.map(Math.log)) < 0.7 * variation(sorted);
}

/** The distinct values of a setting in order, and how to scale them. */
function spreadOf(runs, key) {
  const present = runs.filter((run) => run.settings[key] !== undefined && run.settings[key] !== null);
  const values = [...new Map(present.map((run) => [JSON.stringify(run.settings[key]), run.settings[key]])).values()];
  const numeric = values.length > 0 && values.every((value) => typeof value === "number" && Number.isFinite(value));
  if (numeric) values.sort(compareNumbers);
  else values.sort((a, b) => formatSetting(a).localeCompare(formatSetting(b), "en", { numeric: true }));
  const log = numeric && logSpread(values);
  // Two numbers need no scale, and 0 among powers of ten has no position on a logarithmic one.
  const positive = numeric ? values.filter((value) => value > 0) : [];
  const awkward = numeric && positive.length === values.length - 1 && values[0] === 0 && logSpread(positive);
  return { values, numeric, log, categories: !numeric || values.length < 3 || (awkward && values.length <= 8) || key === "seed" };
}
