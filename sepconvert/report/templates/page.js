"use strict";
(() => {
  const theme = document.getElementById("theme");
  const root = document.documentElement;
  const remembered = (value) => {
    // Storage is forbidden to pages from disk in some browsers; the page then just forgets.
    try { return value === undefined ? localStorage.getItem("sepconvert-theme") : localStorage.setItem("sepconvert-theme", value); } catch { return null; }
  };
  const isDark = () => (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const name = () => { theme.textContent = isDark() ? "Light theme" : "Dark theme"; };
  if (["light", "dark"].includes(remembered())) root.dataset.theme = remembered();
  theme.hidden = false;
  name();
  theme.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; remembered(root.dataset.theme); name(); });
})();

(() => {
  const copy = document.getElementById("copy");
  if (!copy || !navigator.clipboard) return;
  copy.hidden = false;
  copy.addEventListener("click", async () => {
    await navigator.clipboard.writeText(document.getElementById("command").textContent);
    copy.textContent = "Copied";
  });
})();

(() => {
  const table = document.getElementById("layer-table");
  if (!table) return;
  const headings = [...table.tHead.rows[0].cells];
  const groups = [...table.tBodies];
  const text = document.getElementById("filter-text");
  const status = document.getElementById("filter-status");

  const keyOf = (group, column) => {
    const key = group.rows[0].cells[column].dataset.key;
    return key !== "" && Number.isFinite(Number(key)) ? Number(key) : key;
  };
  const compare = (a, b) => {
    // Unknown figures go last whichever way the column is sorted.
    if (a === "" || b === "") return 0;
    return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
  };
  const sortBy = (column, direction) => {
    const keyed = groups.map((group, index) => ({ group, index, key: keyOf(group, column) }));
    keyed.sort((a, b) => (a.key === "") - (b.key === "") || direction * compare(a.key, b.key) || a.index - b.index);
    table.append(...keyed.map((item) => item.group));
    headings.forEach((heading, i) => i === column ? heading.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending") : heading.removeAttribute("aria-sort"));
  };
  headings.forEach((heading, column) => heading.querySelector("button").addEventListener("click", () => {
    // Figures start with the largest, names with A.
    const first = heading.classList.contains("number") && column > 0 ? -1 : 1;
    const current = { ascending: 1, descending: -1 }[heading.getAttribute("aria-sort")];
    sortBy(column, current ? -current : first);
  }));

  const filter = () => {
    const words = text.value.toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    for (const group of groups) {
      const content = group.textContent.toLowerCase();
      const fits = (!status.value || group.dataset.status === status.value) && words.every((word) => content.includes(word));
      group.hidden = !fits;
      shown += fits;
    }
    document.getElementById("filter-count").textContent = `${shown} of ${groups.length} shown`;
    document.getElementById("filter-none").hidden = shown > 0;
  };
  text.addEventListener("input", filter);
  status.addEventListener("change", filter);

  table.addEventListener("click", (event) => {
    const row = event.target.closest("tr.row");
    if (!row || getSelection().toString()) return;
    const button = row.querySelector(".open");
    const open = button.getAttribute("aria-expanded") !== "true";
    button.setAttribute("aria-expanded", String(open));
    row.nextElementSibling.hidden = !open;
  });
})();
