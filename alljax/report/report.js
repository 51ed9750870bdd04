"use strict";

// Tables: a click on a heading sorts; what has no number goes last; rules and footers stay where they are.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const value = (row, column) => {
    const cell = row.cells[column], own = cell.dataset.value;
    return own === undefined ? cell.textContent.trim() : own === "" ? NaN : Number(own);
  };
  heads.forEach((head, column) => head.querySelector("button")?.addEventListener("click", () => {
    const numbers = head.classList.contains("number");
    const before = head.getAttribute("aria-sort");
    const order = before ? (before === "ascending" ? "descending" : "ascending") : numbers ? "descending" : "ascending";
    const sign = order === "ascending" ? 1 : -1;
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", order);
    const compare = (one, other) => {
      const a = value(one, column), b = value(other, column);
      if (typeof a === "string") return sign * a.localeCompare(b, undefined, {numeric: true});
      return Number.isNaN(a) ? 1 : Number.isNaN(b) ? -1 : sign * (a - b);
    };
    body.append(...[...body.rows].sort(compare));
  }));
}

// Curves: mouse, finger or arrow keys move a hairline to the nearest place; a readout names each line's value there.
const clamp = (value, low, high) => Math.max(low, Math.min(high, value));
const written = value => Math.abs(value) < 10 ? value.toFixed(3) : String(Number(value.toPrecision(4)));

function follow(svg) {
  const {width, height} = svg.viewBox.baseVal, panels = JSON.parse(svg.dataset.curves);
  for (const panel of panels) panel.box = panel.box.map((share, index) => share * (index % 2 ? height : width));
  const holder = document.createElement("div"), readout = document.createElement("div");
  const drawn = document.createElementNS(svg.namespaceURI, "g");
  let shown = null;
  holder.className = "follow";
  readout.className = "readout";
  readout.setAttribute("role", "status");
  readout.hidden = true;
  svg.replaceWith(holder);
  holder.append(svg, readout);
  svg.append(drawn);
  svg.tabIndex = 0;
  svg.setAttribute("aria-description", "Arrow keys read the curves.");

  const shape = (name, values) => {
    const one = document.createElementNS(svg.namespaceURI, name);
    for (const [key, value] of Object.entries(values)) one.setAttribute(key, value);
    return one;
  };
  const share = (value, [low, high], log) =>
    log ? Math.log(value / low) / Math.log(high / low) : (value - low) / (high - low);
  const across = (panel, place) => panel.box[0] + panel.box[2] * share(place, panel.x, panel.log[0]);
  const up = (panel, value) => panel.box[1] + panel.box[3] * (1 - share(value, panel.y, panel.log[1]));

  const hide = () => { shown = null; readout.hidden = true; drawn.replaceChildren(); };
  const show = (number, index) => {
    if (shown && shown[0] === number && shown[1] === index) return;
    shown = [number, index];
    const panel = panels[number], place = panel.at[index], x = across(panel, place), [, top, , height] = panel.box;
    drawn.replaceChildren(shape("line", {x1: x, x2: x, y1: top, y2: top + height, class: "hair"}));
    const head = document.createElement("b");
    head.textContent = [panel.title, `${panel.name} ${place}`.trim()].filter(Boolean).join(" · ");
    readout.replaceChildren(head);
    for (const [label, color, values] of panel.lines) {
      if (values[index] === null) continue;
      const dot = shape("circle", {cx: x, cy: clamp(up(panel, values[index]), top, top + height), r: 3});
      const line = document.createElement("div"), name = document.createElement("span"), number = document.createElement("span");
      dot.style.fill = name.style.borderColor = color;
      name.textContent = label;
      number.textContent = written(values[index]);
      line.append(name, number);
      readout.append(line);
      drawn.append(dot);
    }
    readout.hidden = false;
    const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
    const left = x * scale + 10, right = x * scale - 10 - readout.offsetWidth;
    const fits = left + readout.offsetWidth <= holder.clientWidth;
    readout.style.left = `${clamp(fits ? left : right, 0, Math.max(0, holder.clientWidth - readout.offsetWidth))}px`;
    readout.style.top = `${top * scale}px`;
  };
  const nearest = (panel, x) => {
    let best = 0;
    panel.at.forEach((place, index) => {
      if (Math.abs(across(panel, place) - x) < Math.abs(across(panel, panel.at[best]) - x)) best = index;
    });
    return best;
  };
  const point = event => {
    const rectangle = svg.getBoundingClientRect(), scale = svg.viewBox.baseVal.width / rectangle.width;
    const x = (event.clientX - rectangle.left) * scale, y = (event.clientY - rectangle.top) * scale;
    const far = ({box: [left, top, width, height]}) =>
      Math.hypot(x - clamp(x, left, left + width), y - clamp(y, top, top + height));
    const number = panels.reduce((best, panel, index) => far(panel) < far(panels[best]) ? index : best, 0);
    show(number, nearest(panels[number], x));
  };
  const key = event => {
    const [number, index] = shown || [0, -1], last = panels[number].at.length - 1;
    const moves = {
      ArrowRight: [number, Math.min(index + 1, last)],
      ArrowLeft: [number, index < 0 ? last : Math.max(index - 1, 0)],
      Home: [number, 0],
      End: [number, last],
    };
    if (event.key === "Escape") hide();
    if (panels.length > 1 && (event.key === "ArrowDown" || event.key === "ArrowUp")) {
      const next = clamp(number + (event.key === "ArrowDown" ? 1 : -1), 0, panels.length - 1);
      moves[event.key] = [next, nearest(panels[next], across(panels[next], panels[number].at[Math.max(index, 0)]))];
    }
    if (!moves[event.key] || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    show(...moves[event.key]);
  };
  svg.addEventListener("pointermove", point);
  svg.addEventListener("pointerdown", point);
  svg.addEventListener("pointerleave", event => { if (event.pointerType !== "touch") hide(); });
  svg.addEventListener("keydown", key);
  svg.addEventListener("blur", hide);
  document.addEventListener("pointerdown", event => { if (!holder.contains(event.target)) hide(); });
}
document.querySelectorAll("svg[data-curves]").forEach(follow);

// What a link or a printer asks for is opened first.
const openTarget = () => document.getElementById(location.hash.slice(1))?.closest("details")?.setAttribute("open", "");
addEventListener("hashchange", openTarget);
openTarget();
addEventListener("beforeprint", () => document.querySelectorAll("details").forEach(one => one.open = true));
