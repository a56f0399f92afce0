// Checks of our own in the manner of axe: returns a list of findings, empty when all is well.
() => {
  const findings = [];
  const report = (rule, node) => findings.push(`${rule}: ${(node.outerHTML ?? String(node)).slice(0, 140)}`);
  const visible = (node) => node.checkVisibility?.({ visibilityProperty: true }) ?? true;
  const textOf = (node) => (node.textContent ?? "").trim();
  const nameOf = (node) => {
    const ids = node.getAttribute("aria-labelledby");
    if (ids) return ids.split(" ").map((id) => textOf(document.getElementById(id) ?? {})).join(" ");
    return node.getAttribute("aria-label") || [...(node.labels ?? [])].map(textOf).join(" ") || node.getAttribute("alt") || textOf(node);
  };

  for (const node of document.querySelectorAll("a[href], button, input, select, summary, [role=button], [role=img], [role=region], img, nav")) {
    if (visible(node) && !nameOf(node)?.trim()) report("no accessible name", node);
  }
  const seen = new Set();
  for (const node of document.querySelectorAll("[id]")) {
    if (seen.has(node.id)) report("id used twice", node);
    seen.add(node.id);
  }
  for (const attribute of ["aria-labelledby", "aria-controls", "for"]) {
    for (const node of document.querySelectorAll(`[${attribute}]`)) {
      for (const id of node.getAttribute(attribute).split(" ")) if (!document.getElementById(id)) report(`${attribute} names nothing`, node);
    }
  }
  let level = 0;
  for (const heading of document.querySelectorAll("h1, h2, h3, h4")) {
    if (!visible(heading)) continue;
    const next = Number(heading.tagName[1]);
    if (next > level + 1) report("heading level left out", heading);
    level = next;
  }
  if (document.querySelectorAll("h1").length !== 1) report("not one h1", document.body.firstElementChild);
  if (!document.documentElement.lang || !document.title) report("no language or title", document.head);
  if (document.querySelectorAll("main").length !== 1) report("not one main", document.body.firstElementChild);
  for (const cell of document.querySelectorAll("thead th")) if (cell.scope !== "col") report("heading without scope", cell);
  for (const node of document.querySelectorAll("*")) {
    const style = getComputedStyle(node);
    const scrolls = /auto|scroll/.test(style.overflowX + style.overflowY) && (node.scrollWidth > node.clientWidth + 1 || node.scrollHeight > node.clientHeight + 1);
    const reachable = node.tabIndex >= 0 || node.querySelector("a[href], button, input, select, [tabindex='0']");
    if (scrolls && visible(node) && node !== document.documentElement && node !== document.body && !reachable) report("scrolls but takes no focus", node);
    if (node.tabIndex > 0) report("positive tabindex", node);
  }

  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = colour;
    canvas.fillRect(0, 0, 1, 1);
    const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
    return [r, g, b, a / 255];
  };
  const luminance = ([r, g, b]) => {
    const linear = [r, g, b].map((v) => { const s = v / 255; return s <= 0.04045 ? s / 12.92 : ((s + 0.055) / 1.055) ** 2.4; });
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
  };
  const behind = (node) => {
    for (let at = node; at; at = at.parentElement) {
      const rect = at.matches("g") ? at.querySelector(":scope > rect, :scope > circle") : null;
      if (rect && getComputedStyle(rect).fill !== "none") return rgba(getComputedStyle(rect).fill);
      const colour = rgba(getComputedStyle(at).backgroundColor);
      if (colour[3] > 0.99) return colour;
    }
    return [255, 255, 255, 1];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim() || !visible(node) || node.closest("script, style, noscript, .vh, #tip")) continue;
    const style = getComputedStyle(node);
    const colour = rgba(node instanceof SVGElement ? style.fill : style.color);
    const [a, b] = [luminance(colour), luminance(behind(node))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    if (contrast < (large ? 3 : 4.5)) report(`contrast ${contrast.toFixed(2)}`, node);
  }
  return findings;
}
