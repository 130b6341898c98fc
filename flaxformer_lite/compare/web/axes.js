// DOM helpers, and the axes that all charts share, drawn as SVG so that text can be selected.

function el(tag, attributes = {}, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

function svgEl(tag, attributes = {}, ...children) {
  return filled(document.createElementNS(document.querySelector("svg").namespaceURI, tag), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value !== null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** A text with line break opportunities after its separators. */
function breakable(text) {
  return text.split(/(?<=[,/;_= ])/).flatMap((part) => [part, el("wbr")]);
}

const ruler = document.createElement("canvas").getContext("2d");

/** Width of a text in pixels. */
function textWidth(text, size = 11) {
  ruler.font = `${size}px ${getComputedStyle(document.body).fontFamily}`;
  return ruler.measureText(text).width;
}

/** A text without its middle, where it is too wide: names of one sweep differ at their beginning and end. */
function shortened(text, width, size = 11) {
  if (textWidth(text, size) <= width) return text;
  for (let kept = text.length - 1; kept > 1; kept--) {
    const short = `${text.slice(0, Math.ceil(kept / 2))}…${text.slice(text.length - Math.floor(kept / 2))}`;
    if (textWidth(short, size) <= width) return short;
  }
  return text.slice(0, 1);
}

/** Width of the tick labels of a vertical axis. */
function leftMargin(scale) {
  return Math.ceil(Math.max(18, ...scale.ticks.map((tick) => textWidth(tick.text)))) + 16;
}

/** Replaces the content of an SVG by axes and grid; box is {left, right, top, bottom} in pixels. */
function drawAxes(svg, box, x, y, below) {
  svg.replaceChildren();
  for (const tick of y.ticks) {
    const place = y.map(tick.at);
    svg.append(svgEl("line", { class: "grid", x1: box.left, x2: box.right, y1: place, y2: place }));
    svg.append(svgEl("text", { class: "tick", x: box.left - 8, y: place + 4, "text-anchor": "end" }, tick.text));
  }
  svg.append(svgEl("line", { class: "base", x1: box.left, x2: box.right, y1: box.bottom, y2: box.bottom }));
  let end = -Infinity;
  for (const tick of x.ticks) {
    const text = x.band ? shortened(tick.text, x.band - 6) : tick.text;
    const half = textWidth(text) / 2;
    const place = x.map(tick.at);
    const middle = Math.min(Math.max(place, half), box.width - half);
    svg.append(svgEl("line", { class: "base", x1: place, x2: place, y1: box.bottom, y2: box.bottom + 4 }));
    if (middle - half < end + 7) continue;
    end = middle + half;
    const label = svgEl("text", { class: "tick", x: middle, y: box.bottom + 17, "text-anchor": "middle" }, text);
    if (text !== tick.text) label.append(svgEl("title", {}, tick.text));
    svg.append(label);
  }
  if (below) svg.append(svgEl("text", { class: "axis-name", x: (box.left + box.right) / 2, y: box.bottom + 35, "text-anchor": "middle" }, below));
}

/** Places a tooltip above a point of its host, and beside it where there is room. */
function placeTip(tip, host, x, y, children) {
  tip.replaceChildren(...children);
  tip.hidden = false;
  const { offsetWidth: width, offsetHeight: height } = tip;
  const left = x + 14 + width > host.clientWidth ? x - 14 - width : x + 14;
  tip.style.left = `${Math.min(Math.max(left, 0), Math.max(0, host.clientWidth - width))}px`;
  tip.style.top = `${y - height - 10}px`;
}
