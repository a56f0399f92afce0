// The table of layers: sorts, filters, opens.
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
    toggle(row.parentElement, row.querySelector(".open").getAttribute("aria-expanded") !== "true");
    page.choose(groups.indexOf(row.parentElement));
  });

  const toggle = (group, open) => {
    group.querySelector(".open").setAttribute("aria-expanded", String(open));
    group.rows[1].hidden = !open;
  };
  page.onChoose((index) => groups.forEach((group, i) => group.classList.toggle("chosen", i === index)));
  page.showRow = (index) => {
    text.value = status.value = "";
    filter();
    toggle(groups[index], true);
    groups[index].scrollIntoView({ block: "center" });
    groups[index].querySelector(".open").focus({ preventScroll: true });
  };
})();
