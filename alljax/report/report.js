// Tables: a click on a heading sorts the rows; rows without a number come last, the footer stays.
for (const table of document.querySelectorAll("table")) {
  const headings = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const value = cell => "value" in cell.dataset ? parseFloat(cell.dataset.value) : cell.textContent.trim();
  headings.forEach((heading, column) => heading.querySelector("button").addEventListener("click", () => {
    const before = heading.getAttribute("aria-sort");
    const descending = before ? before === "ascending" : heading.classList.contains("number");
    headings.forEach(other => other.removeAttribute("aria-sort"));
    heading.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const sign = descending ? -1 : 1;
    body.append(...[...body.rows].sort((first, second) => {
      const a = value(first.cells[column]), b = value(second.cells[column]);
      if (typeof a === "string") return sign * a.localeCompare(b, undefined, {numeric: true});
      return Number.isNaN(a) ? 1 : Number.isNaN(b) ? -1 : sign * (a - b);
    }));
  }));
}
