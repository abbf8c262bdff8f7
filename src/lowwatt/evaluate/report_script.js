"use strict";
// Sort by a click on a heading: numbers largest first, words from a; a second click turns the order round.
function sortBy(heading) {
  const table = heading.closest("table"), body = table.tBodies[0], column = heading.cellIndex;
  const numeric = heading.classList.contains("num");
  const first = heading.dataset.first || (numeric ? "descending" : "ascending");
  const other = first === "ascending" ? "descending" : "ascending";
  const order = heading.getAttribute("aria-sort") === first ? other : first;
  const value = (row) => row.cells[column].dataset.v ?? row.cells[column].textContent.trim();
  const key = numeric ? (row) => (value(row) === "" ? -Infinity : Number(value(row))) : value;
  const compare = numeric ? (a, b) => a - b || 0 : (a, b) => a.localeCompare(b);
  const sign = order === "ascending" ? 1 : -1;
  const rows = [...body.rows].sort((a, b) => sign * compare(key(a), key(b)));
  for (const each of table.tHead.rows[0].cells) each.removeAttribute("aria-sort");
  heading.setAttribute("aria-sort", order);
  body.append(...rows);
}

// Show the rows that contain every word typed.
function filterRows(input) {
  const rows = [...document.getElementById("layer-table").tBodies[0].rows];
  const words = input.value.toLowerCase().split(/\s+/).filter(Boolean);
  for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
  const shown = rows.filter((row) => !row.hidden);
  const ms = shown.reduce((sum, row) => sum + Number(row.dataset.ms), 0);
  const time = Number.isNaN(ms) ? "" : `, ${ms.toFixed(2)} ms`;
  document.getElementById("filter-count").textContent = `${shown.length} of ${rows.length} layers${time}`;
}

// A time line: hovering tells of a layer, dragging across looks closer, the button shows all again.
function watch(chart) {
  const svg = chart.querySelector("svg"), [left, right] = chart.querySelectorAll(".x span");
  const readout = chart.querySelector(".readout"), back = chart.querySelector("button"), whole = svg.viewBox.baseVal.width, height = svg.viewBox.baseVal.height;
  const select = document.createElementNS(svg.namespaceURI, "rect");
  let from = null, moved = false;
  const at = (event) => {
    const box = svg.getBoundingClientRect(), view = svg.viewBox.baseVal;
    return view.x + view.width * Math.min(1, Math.max(0, (event.clientX - box.left) / box.width));
  };
  const show = (first, last) => {
    svg.setAttribute("viewBox", `${first} 0 ${last - first} ${height}`);
    back.hidden = last - first === whole;
    for (const [span, x] of [[left, first], [right, last]]) span.textContent = `${(chart.dataset.ms * x / whole).toFixed(3)} ms`;
  };
  const mark = (first, last) => {
    for (const [name, value] of [["class", "select"], ["x", first], ["width", last - first], ["height", height]]) select.setAttribute(name, value);
    svg.append(select);
  };
  svg.addEventListener("pointerover", (event) => {
    const title = event.target.querySelector("title");
    if (title) readout.textContent = title.textContent;
  });
  svg.addEventListener("pointerdown", (event) => { from = event.button ? null : at(event); moved = false; });
  svg.addEventListener("dragstart", (event) => event.preventDefault());
  window.addEventListener("pointermove", (event) => {
    if (from === null) return;
    const to = at(event);
    moved ||= Math.abs(to - from) > svg.viewBox.baseVal.width / 100;
    if (moved) mark(Math.min(from, to), Math.max(from, to));
  });
  window.addEventListener("pointerup", (event) => {
    if (from !== null && moved) show(Math.min(from, at(event)), Math.max(from, at(event)));
    select.remove();
    from = null;
  });
  svg.addEventListener("click", (event) => { if (moved) event.preventDefault(); });
  back.addEventListener("click", () => show(0, whole));
}

for (const button of document.querySelectorAll("th button")) {
  button.addEventListener("click", () => sortBy(button.parentElement));
}
const filter = document.getElementById("filter");
if (filter) {
  filter.addEventListener("input", () => filterRows(filter));
  filterRows(filter);
}
for (const figure of document.querySelectorAll("figure")) {
  figure.querySelector("button").addEventListener("click", () => figure.classList.toggle("zoomed"));
}
window.addEventListener("keydown", (event) => {
  if (event.key === "Escape") document.querySelector(".zoomed")?.classList.remove("zoomed");
});
window.addEventListener("beforeprint", () => {
  for (const details of document.querySelectorAll("details")) details.open = true;
});
for (const chart of document.querySelectorAll(".timeline")) watch(chart);
