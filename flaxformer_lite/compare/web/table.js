// The table of runs or of groups over seeds, and the legend.

function drawTable(data, view, actions) {
  const grouped = view.rows === "groups";
  const columns = grouped ? groupColumns(data, view) : runColumns(data, view);
  const rows = grouped ? groupRows(data, view) : data.runs.filter((run) => matches(run, view));
  const sort = columns.find((column) => column.id === view.sort.id) ?? columns.find((column) => column.first);
  const sign = view.sort.id === sort.id ? view.sort.sign : view.lower === false ? -1 : 1;
  const ordered = [...rows].sort((a, b) => compareCells(sort.of(a), sort.of(b), sign));
  const heads = columns.map((column) => {
    const state = column === sort ? (sign > 0 ? "ascending" : "descending") : "none";
    const button = el("button", { type: "button", onclick: () => actions.sort(column.id, column === sort ? -sign : 1) }, column.name);
    return el("th", { scope: "col", "aria-sort": state, class: column.number ? "number" : null }, button);
  });
  const body = ordered.map((row) => tableRow(row, columns, view, actions));
  if (!body.length) body.push(el("tr", {}, el("td", { colspan: columns.length, class: "nothing" }, "No run matches the filter.")));
  byId("table").replaceChildren(el("thead", {}, el("tr", {}, ...heads)), el("tbody", {}, ...body));
}

function tableRow(row, columns, view, actions) {
  const cells = columns.map((column, i) => {
    const content = [column.format(row)].flat();
    if (i || row.runs) return el("td", { class: column.number ? "number" : null }, ...content);
    return el("th", { scope: "row", title: row.folder }, el("span", { class: "name" }, swatch(view.colors.of(row)), el("span", { class: "word" }, ...content)));
  });
  const element = el("tr", {}, ...cells);
  if (row.runs) return element;
  element.dataset.run = row.index;
  element.classList.toggle("hidden-run", view.hidden.has(row.index));
  element.addEventListener("pointerenter", () => actions.highlight(row.index));
  element.addEventListener("pointerleave", () => actions.highlight(null));
  element.addEventListener("click", () => actions.pin(row.index));
  return element;
}

/** Numbers by size, texts alphabetically, missing values last in either direction. */
function compareCells(a, b, sign) {
  const [noA, noB] = [a, b].map((x) => x === null || x === undefined || Number.isNaN(x));
  if (noA || noB) return noA - noB;
  if (typeof a === "number" && typeof b === "number") return sign * compareNumbers(a, b);
  return sign * formatSetting(a).localeCompare(formatSetting(b), "en", { numeric: true });
}

function keyColumns(keys, settingOf) {
  return keys.map((key) => ({
    id: `key ${key}`,
    name: key,
    number: false,
    of: (row) => settingOf(row, key),
    format: (row) => formatSetting(settingOf(row, key)),
  }));
}

function runColumns(data, view) {
  const format = columnFormat(data.runs.map((run) => figure(run, view)), 5);
  const figures = (id, of) => ({ id, name: `${id} ${view.metric}`, number: true, first: view.value === id, of, format: (run) => formatFigure(run, view, of(run), format) });
  const stepOfBest = (run) => (curve(run)?.best === null ? null : curve(run)?.bestStep ?? null);
  const curve = (run) => run.curves.get(view.metric);
  return [
    { id: "name", name: "run", of: (run) => run.name, format: (run) => breakable(run.name) },
    ...keyColumns(data.keys, (run, key) => run.settings[key]),
    ...(view.lower === null ? [] : [figures("best", (run) => curve(run)?.best ?? null), { id: "best step", name: "at step", number: true, of: stepOfBest, format: (run) => formatNumber(stepOfBest(run), 9) }]),
    figures("final", (run) => curve(run)?.final ?? null),
    { id: "state", name: "state", of: (run) => run.state, format: (run) => el("span", { class: `state ${run.state}` }, run.state) },
    { id: "steps", name: "steps", number: true, of: (run) => run.step, format: (run) => formatNumber(run.step, 9) },
  ];
}

function formatFigure(run, view, value, format) {
  if (value === null) return run.curves.has(view.metric) ? "not finite" : "–";
  return format(value);
}

function groupRows(data, view) {
  const groups = new Map();
  for (const run of data.runs.filter((run) => matches(run, view))) groups.set(run.group, [...(groups.get(run.group) ?? []), run]);
  return [...groups.values()].map((runs) => {
    const figures = runs.map((run) => figure(run, view)).filter((x) => x !== null);
    const [low, high] = rangeOf(figures);
    return { runs, figures, low, high, mean: figures.length ? mean(figures) : null, deviation: figures.length > 1 ? deviation(figures) : null };
  });
}

function groupColumns(data, view) {
  const keys = data.keys.filter((key) => key !== "seed");
  const format = columnFormat(data.runs.map((run) => figure(run, view)), 5);
  const numbers = (id, name, of, first = false) => ({ id, name, number: true, first, of, format: (row) => (of(row) === null ? "–" : format(of(row))) });
  const names = { id: "names", name: "runs", of: (row) => row.runs[0].name, format: (row) => row.runs[0].name + (row.runs.length > 1 ? ` and ${row.runs.length - 1} more` : "") };
  return [
    ...(keys.length ? keyColumns(keys, (row, key) => row.runs[0].settings[key]) : [names]),
    numbers("mean", `mean ${view.value} ${view.metric}`, (row) => row.mean, true),
    { ...numbers("deviation", "± deviation", (row) => row.deviation), format: (row) => (row.deviation === null ? "–" : `± ${format(row.deviation)}`) },
    numbers("low", "lowest", (row) => (row.figures.length ? row.low : null)),
    numbers("high", "highest", (row) => (row.figures.length ? row.high : null)),
    { id: "count", name: "runs", number: true, of: (row) => row.figures.length, format: (row) => (row.figures.length < row.runs.length ? `${row.figures.length} of ${row.runs.length}` : String(row.runs.length)) },
  ];
}

function drawLegend(data, view, actions) {
  const runs = ranked(data.runs.filter((run) => matches(run, view)), view);
  const format = columnFormat(data.runs.map((run) => figure(run, view)), 4);
  const visible = runs.filter((run) => shown(run, view)).length;
  byId("legend-count").textContent = visible === runs.length ? `${runs.length} ${runs.length === 1 ? "run" : "runs"}` : `${visible} of ${runs.length} runs`;
  byId("legend").replaceChildren(
    ...runs.map((run) => {
      const box = el("input", { type: "checkbox", onchange: (event) => actions.show(run.index, event.target.checked) });
      box.checked = !view.hidden.has(run.index);
      box.style.setProperty("--color", view.colors.of(run));
      const label = el("label", { title: run.name }, box, el("span", { class: "word" }, ...breakable(run.name)), el("span", { class: "figure" }, formatFigure(run, view, figure(run, view), format)));
      const item = el("li", { "data-run": run.index }, label);
      item.addEventListener("pointerenter", () => actions.highlight(run.index));
      item.addEventListener("pointerleave", () => actions.highlight(null));
      item.addEventListener("focusin", () => actions.highlight(run.index));
      item.addEventListener("focusout", () => actions.highlight(null));
      return item;
    }),
  );
}

/** Marks the rows of the highlighted run. */
function markRows(view) {
  for (const row of document.querySelectorAll("#table tr[data-run], #legend li")) {
    row.classList.toggle("highlighted", Number(row.dataset.run) === view.highlighted);
    row.classList.toggle("pinned", Number(row.dataset.run) === view.pinned);
  }
}
