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

// Figures: mouse or arrow keys move a line to the nearest point of the curves; a box names their values.
const create = (className, textContent = "", style = "") =>
  Object.assign(document.createElement("div"), {className, textContent, style});
const percent = value => `${100 * value}%`;
const format = value => Math.abs(value) < 10 ? value.toFixed(3) : String(Number(value.toPrecision(4)));
const share = (value, [low, high]) => (value - low) / (high - low);

for (const svg of document.querySelectorAll("svg[data-curves]")) {
  const holder = create("follow");
  svg.replaceWith(holder);
  holder.append(svg, ...JSON.parse(svg.dataset.curves).flatMap(follow));
}

function follow({box, x, y, name, title, at, lines}) {
  const [left, top, width, height] = box.map(percent), readout = create("readout");
  const area = create("panel", "", `left: ${left}; top: ${top}; width: ${width}; height: ${height}`);
  const positions = at.map(value => share(value, x));
  let shown = -1;
  const hide = () => { shown = -1; readout.hidden = true; area.replaceChildren(); };
  const show = index => {
    shown = index;
    const across = `left: ${percent(positions[index])}`, place = box[0] + box[2] * positions[index];
    const marks = [create("hair", "", across)];
    const rows = [create("head", [title, `${name} ${at[index]}`].filter(Boolean).join(" · "))];
    for (const [label, color, values] of lines.filter(([, , values]) => values[index] !== null)) {
      const up = percent(share(values[index], y)), row = create("row");
      marks.push(create("dot", "", `${across}; bottom: ${up}; background: ${color}`));
      row.append(create("key", label, `border-color: ${color}`), create("", format(values[index])));
      rows.push(row);
    }
    area.replaceChildren(...marks);
    readout.replaceChildren(...rows);
    readout.style = `top: ${top}; ${place < 0.5 ? "left" : "right"}: ${percent(Math.min(place, 1 - place))}`;
    readout.hidden = false;
  };
  const point = event => {
    const rectangle = area.getBoundingClientRect(), target = (event.clientX - rectangle.left) / rectangle.width;
    const distances = positions.map(position => Math.abs(position - target));
    show(distances.indexOf(Math.min(...distances)));
  };
  const press = event => {
    const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
    if (!step || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    show(Math.min(Math.max(shown + step, 0), at.length - 1));
  };
  const listeners = {pointermove: point, pointerleave: hide, keydown: press, blur: hide};
  Object.entries(listeners).forEach(([event, listener]) => area.addEventListener(event, listener));
  Object.assign(area, {tabIndex: 0, role: "group", ariaLabel: `${title} Curves: arrow keys read the values.`.trim()});
  Object.assign(readout, {hidden: true, role: "status"});
  return [area, readout];
}

// The target of a link is opened; before printing everything is.
const openTarget = () => document.getElementById(location.hash.slice(1))?.closest("details")?.setAttribute("open", "");
addEventListener("hashchange", openTarget);
openTarget();
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(details => { details.open = true; }));
