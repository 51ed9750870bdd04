"use strict";

// Tables: a click on a heading sorts the rows; rows without a number come last, the footer stays.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const value = (row, column) => {
    const {dataset, textContent} = row.cells[column];
    if (dataset.value === undefined) return textContent.trim();
    return dataset.value === "" ? NaN : Number(dataset.value);
  };
  headings.forEach((heading, column) => heading.querySelector("button").addEventListener("click", () => {
    const before = heading.getAttribute("aria-sort");
    const descending = before ? before === "ascending" : heading.classList.contains("number");
    headings.forEach(other => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const sign = descending ? -1 : 1;
    body.append(...[...body.rows].sort((first, second) => {
      const a = value(first, column), b = value(second, column);
      if (typeof a === "string") return sign * a.localeCompare(b, undefined, {numeric: true});
      return Number.isNaN(a) ? 1 : Number.isNaN(b) ? -1 : sign * (a - b);
    }));
  }));
}

// Figures: mouse, finger or arrow keys move a line to the nearest point of the curves; a box names their values.
const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
const format = value => Math.abs(value) < 10 ? value.toFixed(3) : String(Number(value.toPrecision(4)));
const share = (value, [low, high], log) =>
  log ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);

function followCurves(svg) {
  const {width, height} = svg.viewBox.baseVal, panels = JSON.parse(svg.dataset.curves);
  for (const panel of panels) panel.box = panel.box.map((part, index) => part * (index % 2 ? height : width));
  const holder = document.createElement("div"), readout = document.createElement("div");
  const marks = document.createElementNS(svg.namespaceURI, "g");
  let shown = null;
  holder.className = "follow";
  readout.className = "readout";
  readout.setAttribute("role", "status");
  readout.hidden = true;
  svg.replaceWith(holder);
  holder.append(svg, readout);
  svg.append(marks);
  svg.tabIndex = 0;
  svg.setAttribute("aria-description", "Arrow keys read the values of the curves.");

  const mark = (name, attributes) => {
    const element = document.createElementNS(svg.namespaceURI, name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    marks.append(element);
    return element;
  };
  const xOf = (panel, value) => panel.box[0] + panel.box[2] * share(value, panel.x, panel.log[0]);
  const yOf = (panel, value) => panel.box[1] + panel.box[3] * (1 - share(value, panel.y, panel.log[1]));
  const hide = () => { shown = null; readout.hidden = true; marks.replaceChildren(); };
  const show = (number, index) => {
    if (shown && shown[0] === number && shown[1] === index) return;
    shown = [number, index];
    const panel = panels[number], x = xOf(panel, panel.at[index]), [, top, , boxHeight] = panel.box;
    marks.replaceChildren();
    mark("line", {x1: x, x2: x, y1: top, y2: top + boxHeight, class: "hair"});
    const head = document.createElement("b");
    head.textContent = [panel.title, `${panel.name} ${panel.at[index]}`.trim()].filter(Boolean).join(" · ");
    readout.replaceChildren(head);
    for (const [label, color, values] of panel.lines) {
      if (values[index] === null) continue;
      const row = document.createElement("div"), name = document.createElement("span"), text = document.createElement("span");
      name.textContent = label;
      name.style.borderColor = color;
      text.textContent = format(values[index]);
      row.append(name, text);
      readout.append(row);
      mark("circle", {cx: x, cy: clamp(yOf(panel, values[index]), top, top + boxHeight), r: 3}).style.fill = color;
    }
    readout.hidden = false;
    const scale = svg.getBoundingClientRect().width / width, room = holder.clientWidth - readout.offsetWidth;
    const left = x * scale + 10 <= room ? x * scale + 10 : x * scale - 10 - readout.offsetWidth;
    readout.style.left = `${clamp(left, 0, Math.max(0, room))}px`;
    readout.style.top = `${top * scale}px`;
  };
  const nearest = (panel, x) => panel.at.reduce((best, value, index) =>
    Math.abs(xOf(panel, value) - x) < Math.abs(xOf(panel, panel.at[best]) - x) ? index : best, 0);
  const point = event => {
    const rectangle = svg.getBoundingClientRect(), scale = width / rectangle.width;
    const x = (event.clientX - rectangle.left) * scale, y = (event.clientY - rectangle.top) * scale;
    const distance = ({box: [left, top, boxWidth, boxHeight]}) =>
      Math.hypot(x - clamp(x, left, left + boxWidth), y - clamp(y, top, top + boxHeight));
    const number = panels.reduce((best, panel, index) => distance(panel) < distance(panels[best]) ? index : best, 0);
    show(number, nearest(panels[number], x));
  };
  const press = event => {
    if (event.key === "Escape") hide();
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const [number, index] = shown || [0, -1], last = panels[number].at.length - 1;
    const moves = {
      ArrowRight: [number, Math.min(index + 1, last)], ArrowLeft: [number, index < 0 ? last : Math.max(index - 1, 0)],
      Home: [number, 0], End: [number, last],
    };
    if (panels.length > 1 && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      const next = clamp(number + (event.key === "ArrowDown" ? 1 : -1), 0, panels.length - 1);
      moves[event.key] = [next, nearest(panels[next], xOf(panels[next], panels[number].at[Math.max(index, 0)]))];
    }
    if (!moves[event.key]) return;
    event.preventDefault();
    show(...moves[event.key]);
  };
  svg.addEventListener("pointermove", point);
  svg.addEventListener("pointerdown", point);
  svg.addEventListener("pointerleave", event => { if (event.pointerType !== "touch") hide(); });
  svg.addEventListener("keydown", press);
  svg.addEventListener("blur", hide);
  document.addEventListener("pointerdown", event => { if (!holder.contains(event.target)) hide(); });
}
document.querySelectorAll("svg[data-curves]").forEach(followCurves);

// The target of a link is opened; before printing everything is.
const openTarget = () => document.getElementById(location.hash.slice(1))?.closest("details")?.setAttribute("open", "");
addEventListener("hashchange", openTarget);
openTarget();
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(details => { details.open = true; }));
