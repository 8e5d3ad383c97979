"use strict";
// Sliders, layer switches, sortable tables, and all but the longest table open when printed.
for (const card of document.querySelectorAll(".card")) {
  const range = card.querySelector("input[type=range]");
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
  }
  card.addEventListener("change", (event) => {
    const radio = event.target;
    if (radio.type !== "radio") return;
    for (const layer of card.querySelectorAll(".layer." + radio.dataset.kind)) {
      layer.hidden = layer.dataset.layer !== radio.value;
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
        const order = numeric ? Number(x) - Number(y) : byText.compare(x, y);
        return down ? -order : order;
      });
      table.tBodies[0].append(...rows);
    });
  });
}

let opened = [];
addEventListener("beforeprint", () => {
  opened = [...document.querySelectorAll("details:not([open], .long)")];
  opened.forEach((part) => { part.open = true; });
});
addEventListener("afterprint", () => opened.forEach((part) => { part.open = false; }));

// a link to a case inside a closed part opens it
const reveal = () => {
  const id = decodeURIComponent(location.hash.slice(1));
  const part = id && document.getElementById(id)?.closest("details");
  if (part && !part.open) {
    part.open = true;
    document.getElementById(id).scrollIntoView();
  }
};
addEventListener("hashchange", reveal);
reveal();
