// The network as one long strip of columns, folded into lines like text; zooming folds it anew.
(() => {
  const host = document.getElementById("network-view");
  const net = page.data.network;
  if (!host || !net) return;
  const info = document.getElementById("network-info");
  const zoom = document.getElementById("zoom");
  const NARROWEST = 108, WIDTH = 88, HEIGHT = 34, LANE = 46, TRACK = 6, EDGE = 16, GAP = 22, JOIN = 9;
  const SIGNS = { Add: "+", Sum: "+", Sub: "−", Mul: "×", Concat: "∥" };
  const svgNode = (name, attributes, ...children) => {
    const node = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
    node.append(...children);
    return node;
  };

  const isJoin = (node) => node.status === "join";
  const half = (node) => (isJoin(node) ? JOIN : WIDTH / 2);
  const words = { rewritten: "rewritten", kept: "kept as it is", "already-separable": "separable already", eligible: "can be rewritten", skipped: "no candidate", join: "join" };
  const describe = (node) => {
    const head = node.n ? `Layer ${node.n}, ${node.name}` : node.name;
    const shape = node.kernel ? `${node.op} ${node.kernel}` : node.op;
    const became = node.status === "rewritten" ? `rewritten as ${node.label}` : words[node.status] ?? node.status;
    return [head, shape, became].join(": ") + (node.reason ? `. ${node.reason}` : "");
  };

  const columns = 1 + Math.max(...net.nodes.map((node) => node.place[0]));
  const busEnds = net.buses.map(([source, , targets]) => [net.nodes[source].place[0], Math.max(...targets.map((t) => net.nodes[t].place[0]))]);
  const laneCount = Array(columns).fill(1);
  for (const node of net.nodes) laneCount[node.place[0]] = Math.max(laneCount[node.place[0]], node.place[1] + 1);
  let scale = 1;
  let groups = [];
  let active = 0;

  const fold = (perRow) => {
    const lines = [];
    let top = 0;
    for (let first = 0; first < columns; first += perRow) {
      const last = Math.min(first + perRow, columns) - 1;
      const tracks = net.buses.reduce((most, [, track], i) => (busEnds[i][0] <= last && busEnds[i][1] >= first ? Math.max(most, track + 1) : most), 0);
      const lanes = Math.max(...laneCount.slice(first, last + 1));
      const nodesTop = top + GAP / 2 + (tracks ? 6 + tracks * TRACK : 0);
      lines.push({ first, last, nodesTop });
      top = nodesTop + lanes * LANE - (LANE - HEIGHT) + GAP / 2;
    }
    return { lines, height: top };
  };

  const measure = () => {
    const room = host.clientWidth / scale;
    return { room, perRow: Math.max(3, Math.min(columns, Math.floor((room - 2 * EDGE) / NARROWEST))) };
  };
  const draw = () => {
    const { room, perRow } = measure();
    // Full lines end at the margin, as in a printed column.
    const pitch = columns > perRow ? (room - 2 * EDGE) / perRow : NARROWEST;
    const { lines, height } = fold(perRow);
    const width = perRow * pitch + 2 * EDGE;
    const lineOf = (column) => Math.floor(column / perRow);
    const at = (node) => ({
      x: EDGE + (node.place[0] % perRow) * pitch + pitch / 2,
      y: lines[lineOf(node.place[0])].nodesTop + node.place[1] * LANE + HEIGHT / 2,
      line: lineOf(node.place[0]),
    });
    const places = net.nodes.map(at);
    const edges = svgNode("g", { class: "edges", "aria-hidden": "true" });
    const path = (d, a, b) => edges.append(svgNode("path", { d, "data-a": a, "data-b": b }));

    for (const [a, b] of net.direct) {
      const from = places[a], to = places[b];
      const x1 = from.x + half(net.nodes[a]), x2 = to.x - half(net.nodes[b]);
      if (from.line === to.line) {
        const mid = (x1 + x2) / 2;
        path(from.y === to.y ? `M${x1} ${from.y}H${x2}` : `M${x1} ${from.y}C${mid} ${from.y} ${mid} ${to.y} ${x2} ${to.y}`, a, b);
      } else {
        path(`M${x1} ${from.y}H${width}`, a, b);
        path(`M0 ${to.y}H${x2}`, a, b);
      }
    }
    for (const [source, track, targets] of net.buses) {
      const from = places[source];
      const finalLine = Math.max(...targets.map((t) => places[t].line));
      const shift = 3 + (track % 3) * 3;
      for (let line = from.line; line <= finalLine; line += 1) {
        const y = lines[line].nodesTop - 8 - track * TRACK;
        const here = targets.filter((t) => places[t].line === line);
        const enter = (t) => places[t].x - half(net.nodes[t]) - shift;
        const end = line < finalLine ? width : Math.max(...here.map(enter));
        const rise = from.x + half(net.nodes[source]) + shift;
        path(line === from.line ? `M${rise - shift} ${from.y}H${rise}V${y}H${end}` : `M0 ${y}H${end}`, source, targets.join(" "));
        for (const t of here) path(`M${enter(t)} ${y}V${places[t].y}H${enter(t) + shift}`, source, t);
      }
    }

    // Too small for words: the layer's number alone, which the table and the bars have too.
    const tiny = scale < 0.65;
    groups = net.nodes.map((node, i) => {
      const { x, y } = places[i];
      const group = svgNode("g", { class: `node ${node.status}`, role: "button", tabindex: i === active ? "0" : "-1", "aria-label": describe(node), "data-i": i });
      if (isJoin(node)) {
        group.append(svgNode("circle", { cx: x, cy: y, r: JOIN }), svgNode("text", { x, y: y + 4 }, tiny ? "" : SIGNS[node.op] ?? node.op.slice(0, 1)));
        return group;
      }
      group.append(svgNode("rect", { x: x - WIDTH / 2, y: y - HEIGHT / 2, width: WIDTH, height: HEIGHT, rx: node.status === "input" || node.status === "output" ? HEIGHT / 2 : 4 }));
      if (tiny) {
        if (node.n) group.append(svgNode("text", { x, y: y + 8, class: "count" }, String(node.n)));
        return group;
      }
      const upper = node.n ? `${node.n} · ${node.kernel.replace(" transposed", "ᵀ")}` : node.status === "skipped" || node.status === "already-separable" ? node.op : node.status;
      const lower = node.n ? node.label : node.status === "skipped" || node.status === "already-separable" ? node.label ?? "" : node.name;
      const fit = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}…` : text);
      group.append(svgNode("text", { x, y: y - 3, class: "upper" }, fit(upper, 14)), svgNode("text", { x, y: y + 11 }, fit(lower, node.n ? 14 : 12)));
      return group;
    });

    const svg = svgNode("svg", { viewBox: `0 0 ${width} ${height}`, width: Math.round(width * scale), height: Math.round(height * scale), role: "group", "aria-label": "The network, from left to right and line by line; arrow keys walk along it" }, edges, ...groups);
    host.replaceChildren(svg);
    mark();
  };

  const mark = () => {
    const chosen = page.chosen + 1;
    groups.forEach((group, i) => {
      group.classList.toggle("chosen", chosen > 0 && net.nodes[i].n === chosen);
      group.setAttribute("aria-pressed", String(i === active));
    });
  };
  const light = (i) => {
    for (const edge of host.querySelectorAll(".edges path")) {
      const touches = i !== null && (edge.dataset.a === String(i) || edge.dataset.b.split(" ").includes(String(i)));
      edge.classList.toggle("lit", touches);
    }
  };
  const pick = (i, focus) => {
    groups[active]?.setAttribute("tabindex", "-1");
    active = i;
    groups[active].setAttribute("tabindex", "0");
    if (focus) groups[active].focus({ preventScroll: false });
    const node = net.nodes[i];
    info.replaceChildren(describe(node));
    if (node.n) {
      const link = document.createElement("button");
      link.type = "button";
      link.className = "quiet";
      link.textContent = "Show in the table";
      link.addEventListener("click", () => page.showRow(node.n - 1));
      info.append(" ", link);
      page.choose(node.n - 1);
    }
    mark();
    light(i);
  };

  const indexOf = (target) => { const group = target.closest?.(".node"); return group ? Number(group.dataset.i) : null; };
  host.addEventListener("click", (event) => { const i = indexOf(event.target); if (i !== null) pick(i, false); });
  host.addEventListener("mouseover", (event) => light(indexOf(event.target)));
  host.addEventListener("mouseleave", () => light(null));
  host.addEventListener("keydown", (event) => {
    const i = indexOf(event.target);
    if (i === null) return;
    const to = { ArrowRight: i + 1, ArrowDown: i + 1, ArrowLeft: i - 1, ArrowUp: i - 1, Home: 0, End: net.nodes.length - 1, Enter: i, " ": i }[event.key];
    if (to === undefined || !net.nodes[to]) return;
    event.preventDefault();
    pick(to, true);
  });

  const setScale = (value) => {
    scale = Math.min(1.6, Math.max(0.3, value));
    zoom.value = String(Math.round(scale * 100));
    draw();
  };
  zoom.addEventListener("input", () => setScale(Number(zoom.value) / 100));
  document.getElementById("zoom-out").addEventListener("click", () => setScale(scale - 0.15));
  document.getElementById("zoom-in").addEventListener("click", () => setScale(scale + 0.15));
  const fit = () => {
    const most = innerHeight * 0.7;
    for (scale = 1; scale > 0.45 && fold(measure().perRow).height * scale > most; scale -= 0.1);
    setScale(scale);
  };
  document.getElementById("zoom-fit").addEventListener("click", fit);
  host.addEventListener("wheel", (event) => {
    if (!event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    setScale(scale * (event.deltaY < 0 ? 1.1 : 0.9));
  }, { passive: false });

  page.onChoose(() => {
    const i = net.nodes.findIndex((node) => node.n === page.chosen + 1);
    if (i >= 0) active = i;
    groups.forEach((group, k) => group.setAttribute("tabindex", k === active ? "0" : "-1"));
    mark();
  });
  let width = host.clientWidth;
  new ResizeObserver(() => { if (host.clientWidth !== width) { width = host.clientWidth; draw(); } }).observe(host);
  fit();
})();
