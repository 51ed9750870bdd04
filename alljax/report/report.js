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
const create = (className, text = "") => Object.assign(document.createElement("div"), {className, textContent: text});
const percent = value => `${100 * value}%`;
const format = value => Math.abs(value) < 10 ? value.toFixed(3) : String(Number(value.toPrecision(4)));
const share = (value, [low, high], log) =>
  log ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);

for (const svg of document.querySelectorAll("svg[data-curves]")) {
  const holder = create("follow");
  svg.replaceWith(holder);
  holder.append(svg);
  JSON.parse(svg.dataset.curves).forEach(panel => holder.append(...follow(panel)));
}

function follow({box: [left, top, width, height], x, y, log, name, title, at, lines}) {
  const area = create("panel"), readout = create("readout"), last = at.length - 1;
  const positions = at.map(value => share(value, x, log));
  let shown = -1;
  const hide = () => { shown = -1; readout.hidden = true; area.replaceChildren(); };
  const mark = (className, position) => {
    const element = create(className);
    element.style.left = percent(position);
    area.append(element);
    return element;
  };
  const show = index => {
    hide();
    shown = index;
    mark("hair", positions[index]);
    readout.replaceChildren(create("head", [title, `${name} ${at[index]}`].filter(Boolean).join(" · ")));
    for (const [label, color, values] of lines.filter(([, , values]) => values[index] !== null)) {
      const row = create("row"), key = create("key", label), dot = mark("dot", positions[index]);
      dot.style.bottom = percent(share(values[index], y));
      dot.style.background = key.style.borderColor = color;
      row.append(key, create("", format(values[index])));
      readout.append(row);
    }
    const place = left + width * positions[index];
    readout.style.left = place < 0.5 ? percent(place) : "auto";
    readout.style.right = place < 0.5 ? "auto" : percent(1 - place);
    readout.hidden = false;
  };
  const point = event => {
    const rectangle = area.getBoundingClientRect(), target = (event.clientX - rectangle.left) / rectangle.width;
    const distances = positions.map(position => Math.abs(position - target));
    show(distances.indexOf(Math.min(...distances)));
  };
  const press = event => {
    const before = shown < 0 ? last : Math.max(shown - 1, 0);
    const moves = {ArrowRight: Math.min(shown + 1, last), ArrowLeft: before, Home: 0, End: last};
    if (event.key === "Escape") hide();
    if (!(event.key in moves) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    show(moves[event.key]);
  };
  const listeners = {pointermove: point, pointerdown: point, keydown: press, blur: hide};
  Object.entries(listeners).forEach(([event, listener]) => area.addEventListener(event, listener));
  area.addEventListener("pointerleave", event => { if (event.pointerType !== "touch") hide(); });
  Object.assign(area.style, {left: percent(left), top: percent(top), width: percent(width), height: percent(height)});
  Object.assign(area, {tabIndex: 0, role: "group", ariaLabel: `${title} Curves: arrow keys read the values.`.trim()});
  Object.assign(readout, {hidden: true, role: "status"});
  readout.style.top = percent(top);
  return [area, readout];
}

// The target of a link is opened; before printing everything is.
const openTarget = () => document.getElementById(location.hash.slice(1))?.closest("details")?.setAttribute("open", "");
addEventListener("hashchange", openTarget);
openTarget();
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(details => { details.open = true; }));
