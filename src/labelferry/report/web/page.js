"use strict";
// Slices, layers, sortable and searchable tables, and all but the longest parts open when printed.
document.documentElement.classList.add("js");

for (const card of document.querySelectorAll(".card")) {
  const range = card.querySelector("input[type=range]");
  const organs = card.querySelector("[data-organs]");
  const panels = card.querySelector(".panels");
  if (!panels) continue;
  if (range) {
    const heights = range.dataset.heights.split(" ");
    const lines = range.dataset.lines.split(" ");
    const out = card.querySelector("output");
    const show = () => {
      const k = Number(range.value);
      card.style.setProperty("--k", k);
      card.style.setProperty("--line", lines[k]);
      const text = "slice " + (k + 1) + " of " + lines.length + ", z " + heights[k] + " mm";
      out.textContent = text;
      range.setAttribute("aria-valuetext", text);
    };
    range.addEventListener("input", show);
    show();
    // the wheel scrolls the page until a picture is clicked: nobody gets caught on the way down
    let turned = 0;
    panels.addEventListener("wheel", (event) => {
      if (!card.contains(document.activeElement) || event.ctrlKey) return;
      event.preventDefault();
      turned += event.deltaMode ? event.deltaY * 40 : event.deltaY;
      const steps = Math.trunc(turned / 40);
      if (!steps) return;
      turned -= steps * 40;
      range.value = Number(range.value) - steps;
      show();
    }, { passive: false });
  }
  const toggle = () => panels.classList.toggle("bare", !organs.checked);
  organs?.addEventListener("change", toggle);
  card.addEventListener("keydown", (event) => {
    if (event.key === "o" && organs && !event.ctrlKey && !event.metaKey && !event.altKey) {
      organs.checked = !organs.checked;
      toggle();
    }
  });
  panels.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) {
      (range ?? organs)?.focus({ preventScroll: true });
      return;
    }
    const alone = button.getAttribute("aria-pressed") !== "true";
    panels.classList.toggle("alone", alone);
    for (const other of panels.querySelectorAll("button")) {
      const on = alone && other === button;
      other.setAttribute("aria-pressed", on);
      other.title = on ? "Show all columns" : "Enlarge";
    }
  });
}

const byText = new Intl.Collator(undefined, { numeric: true });
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const numeric = head.classList.contains("num");
      const key = (row) => {
        const cell = row.cells[column];
        return numeric ? cell.dataset.v : cell.textContent.trim();
      };
      const rows = [...table.tBodies[0].rows].sort((a, b) => {
        const x = key(a), y = key(b);
        if (!x || !y) return (x ? 0 : 1) - (y ? 0 : 1);  // absent values stay last
        const both = numeric ? Number(x) - Number(y) : NaN;
        const order = Number.isNaN(both) ? byText.compare(x, y) : both;
        return down ? -order : order;
      });
      table.tBodies[0].append(...rows);
    });
  });
}

for (const field of document.querySelectorAll("[data-filter]")) {
  const rows = [...field.closest("details").querySelector("tbody").rows];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  field.addEventListener("input", () => {
    const wanted = field.value.toLowerCase().split(/\s+/);
    rows.forEach((row, i) => { row.hidden = !wanted.every((word) => texts[i].includes(word)); });
  });
}

let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open], .long)")];
  opened.forEach((part) => { part.open = true; });
});
addEventListener("afterprint", () => opened.forEach((part) => { part.open = false; }));

// #case-3/7 opens the part that holds case 3 and shows its slice 7
const reveal = () => {
  const [id, slice] = decodeURIComponent(location.hash.slice(1)).split("/");
  const target = id && document.getElementById(id);
  if (!target) return;
  const part = target.closest("details");
  if (part) part.open = true;
  const range = target.querySelector("input[type=range]");
  if (slice && range) {
    range.value = Number(slice) - 1;
    range.dispatchEvent(new Event("input"));
  }
  if (part || slice) target.scrollIntoView({ behavior: "instant" });
};
addEventListener("hashchange", reveal);
reveal();
