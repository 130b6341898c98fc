// Elements, and the frame that charts share: ticks, grid and words as SVG, so that text stays text.

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

/** A text that may be broken behind its commas, slashes and the like, before it is broken anywhere. */
function breakable(text) {
  return text.split(/(?<=[,/;_= ])/).flatMap((part) => [part, el("wbr")]);
}

const ruler = document.createElement("canvas").getContext("2d");

/** Pixels that a text takes. */
function textWidth(text, size = 11) {
  ruler.font = `${size}px ${getComputedStyle(document.body).fontFamily}`;
  return ruler.measureText(text).width;
}

/** A text without its middle, where it is too wide: names of one sweep begin and end differently. */
function shortened(text, width, size = 11) {
  if (textWidth(text, size) <= width) return text;
  for (let kept = text.length - 1; kept > 1; kept--) {
    const short = `${text.slice(0, Math.ceil(kept / 2))}…${text.slice(text.length - Math.floor(kept / 2))}`;
    if (textWidth(short, size) <= width) return short;
  }
  return text.slice(0, 1);
}

/** Room on the left of a chart for the words of its vertical axis. */
function leftMargin(scale) {
  return Math.ceil(Math.max(18, ...scale.ticks.map((tick) => textWidth(tick.text)))) + 16;
}

/** Draws the frame of a chart into an emptied SVG; box is {left, right, top, bottom} in pixels. */
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

/** Puts a tip above a place of its host; beside it too, where there is room. */
function placeTip(tip, host, x, y, children) {
  tip.replaceChildren(...children);
  tip.hidden = false;
  const { offsetWidth: width, offsetHeight: height } = tip;
  const left = x + 14 + width > host.clientWidth ? x - 14 - width : x + 14;
  tip.style.left = `${Math.min(Math.max(left, 0), Math.max(0, host.clientWidth - width))}px`;
  tip.style.top = `${y - height - 10}px`;
}
