// Reads the data of the page: metadata as JSON, the points of all curves as compressed bytes.

const byId = (id) => document.getElementById(id);

/** Decodes runs with their settings and curves. */
async function readData() {
  const data = JSON.parse(byId("data").textContent);
  const bytes = await inflate(byId("points").textContent);
  const steps = readSteps(bytes, data.steps);
  const values = readValues(bytes, 4 * sum(data.steps), data.values);
  data.runs.forEach((run, index) => Object.assign(run, { index, curves: new Map() }));
  for (const [run, metric, stepsAt, valuesAt, final, best, bestStep] of data.curves) {
    data.runs[run].curves.set(data.metrics[metric].name, { steps: steps[stepsAt], values: values[valuesAt], final, best, bestStep });
  }
  for (const run of data.runs) {
    run.text = [run.name, run.state, ...data.keys.map((key) => `${key}=${formatSetting(run.settings[key])}`)].join(" ").toLowerCase();
    run.group = JSON.stringify(data.keys.filter((key) => key !== "seed").map((key) => run.settings[key] ?? null));
  }
  return data;
}

async function inflate(base64) {
  const letters = atob(base64);
  const packed = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i++) packed[i] = letters.charCodeAt(i);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Steps are stored as differences in byte planes: all first bytes, then all second ones and so on. */
function readSteps(bytes, counts) {
  const total = sum(counts);
  let at = 0;
  return counts.map((count) => {
    const steps = new Float64Array(count);
    for (let i = 0, step = 0; i < count; i++, at++) {
      step += (bytes[at] << 24) | (bytes[total + at] << 16) | (bytes[2 * total + at] << 8) | bytes[3 * total + at];
      steps[i] = step;
    }
    return steps;
  });
}

/** Values are stored as the three high byte planes of float32 numbers. */
function readValues(bytes, start, counts) {
  const total = sum(counts);
  const bits = new Uint32Array(total);
  for (let i = 0; i < total; i++) {
    bits[i] = (bytes[start + i] << 24) | (bytes[start + total + i] << 16) | (bytes[start + 2 * total + i] << 8);
  }
  const all = new Float32Array(bits.buffer);
  let at = 0;
  return counts.map((count) => all.subarray(at, (at += count)));
}

function sum(numbers) {
  return numbers.reduce((a, b) => a + b, 0);
}

function mean(numbers) {
  return sum(numbers) / numbers.length;
}

/** Standard deviation of a sample; NaN for one number. */
function deviation(numbers) {
  const middle = mean(numbers);
  return Math.sqrt(sum(numbers.map((x) => (x - middle) ** 2)) / (numbers.length - 1));
}

/** The selected value (best or final) of the selected metric; null where a run has none or it is not finite. */
function figure(run, view) {
  return run.curves.get(view.metric)?.[view.value] ?? null;
}

/** Best first where the metric has a direction, otherwise lowest first; runs without a value are last. */
function ranked(runs, view) {
  const sign = view.lower === false ? -1 : 1;
  const place = (run) => (figure(run, view) === null ? Infinity : sign * figure(run, view));
  return [...runs].sort((a, b) => compareNumbers(place(a), place(b)) || a.index - b.index);
}

function compareNumbers(a, b) {
  return a === b ? 0 : a < b ? -1 : 1;
}

/** Whether a run is neither hidden nor filtered out. */
function shown(run, view) {
  return !view.hidden.has(run.index) && matches(run, view);
}

function matches(run, view) {
  return view.words.every((word) => run.text.includes(word));
}

/** Debiased exponential moving average over the finite values. */
function smooth(values, weight) {
  if (!weight) return values;
  const result = new Float32Array(values.length);
  for (let i = 0, total = 0, share = 0; i < values.length; i++) {
    if (Number.isFinite(values[i])) {
      total = weight * total + (1 - weight) * values[i];
      share = weight * share + 1 - weight;
      result[i] = total / share;
    } else {
      result[i] = values[i];
    }
  }
  return result;
}
