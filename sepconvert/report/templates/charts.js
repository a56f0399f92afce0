// The charts: Vega drawings whose data comes from the page, all following the chosen layer.
(() => {
  const specs = JSON.parse(document.getElementById("charts").textContent);
  const { data } = page;
  const views = {};

  const tip = document.getElementById("tip");
  const showTip = (_, event, item, value) => {
    tip.hidden = !value;
    if (!value) return;
    const entries = typeof value === "object" ? Object.entries(value) : [["", String(value)]];
    tip.replaceChildren(...entries.map(([name, text]) => {
      const line = document.createElement("div");
      const label = document.createElement("span");
      label.textContent = name;
      line.append(label, " ", String(text));
      return line;
    }));
    const x = Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8);
    tip.style.transform = `translate(${Math.max(8, x)}px, ${event.clientY + 18}px)`;
  };

  const curveOf = (index) => {
    const { lines, marks } = data.curves[index] ?? { lines: {}, marks: [] };
    const points = Object.entries(lines).flatMap(([form, line]) => line.map(([rank, error]) => ({ form, rank, error, mark: "" })));
    return [...points, ...marks.map(([form, rank, error, mark]) => ({ form, rank, error, mark }))];
  };
  const spectrumOf = (index) => (data.spectra[index] ?? []).map(([rank, share]) => ({ rank, share }));
  const rows = { layers: data.layers, samples: data.samples, points: data.points, training: data.training, curve: [], spectrum: [] };
  const follow = {
    curve: (index) => ["curve", curveOf(index)],
    spectrum: (index) => ["spectrum", spectrumOf(index)],
  };

  const place = (name) => document.getElementById(`chart-${name}`);
  // Everything is inline: a loader that refuses keeps it so.
  const refuse = () => Promise.reject(new Error("this page loads nothing"));
  const draw = async (name) => {
    if (views[name] || !place(name)) return;
    if (follow[name]) rows[name] = follow[name](page.chosen)[1];
    const spec = { ...specs[name], datasets: rows };
    const loader = { load: refuse, sanitize: refuse };
    const { view } = await vegaEmbed(place(name), spec, { mode: "vega-lite", renderer: "svg", actions: false, defaultStyle: false, tooltip: showTip, loader, logLevel: 1 });
    views[name] = view;
    update(name);
    view.run();
    if (name.startsWith("bars-")) view.addEventListener("click", (_, item) => item?.datum?.n && page.choose(item.datum.n - 1));
  };

  const empty = (name, isEmpty) => {
    const note = document.getElementById(`none-${name}`);
    if (note) note.hidden = !isEmpty;
    place(name).classList.toggle("blank", isEmpty);
  };
  const update = (name) => {
    const view = views[name];
    if (name.startsWith("bars-")) view.signal("layer", page.chosen + 1);
    if (!follow[name]) return;
    const [source, values] = follow[name](page.chosen);
    view.data(source, values);
    empty(name, values.length === 0);
  };

  const chosen = document.getElementById("chosen");
  const summary = document.getElementById("chosen-summary");
  page.onChoose((index) => {
    for (const name of Object.keys(views)) { update(name); views[name].run(); }
    if (!chosen) return;
    chosen.value = String(index);
    const layer = data.layers[index];
    const form = document.getElementById("spectrum-form");
    if (form) form.textContent = data.spectrum_forms[index] && `, form ${data.spectrum_forms[index]}`;
    summary.textContent = `${layer.status[0].toUpperCase()}${layer.status.slice(1)}. MACs ${layer.macs_text}, parameters ${layer.params_text}.`;
  });
  chosen?.addEventListener("change", () => page.choose(Number(chosen.value)));

  // The layer that gained most, else the one that costs most, is the one a reader asks about first.
  const gained = [...document.querySelectorAll("#layer-table .open")].findIndex((button) => button.getAttribute("aria-expanded") === "true");
  const largest = gained >= 0 ? gained : data.layers.reduce((best, layer, i) => ((layer.macs ?? -1) > (data.layers[best].macs ?? -1) ? i : best), 0);
  page.choose(largest);

  // One chart per task, so that the page answers to the reader meanwhile.
  const waiting = Object.keys(specs);
  const unpack = async () => {
    const packed = Uint8Array.from(atob(document.getElementById("vega").textContent), (letter) => letter.charCodeAt(0));
    const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script");
    script.textContent = `(() => {${await new Response(stream).text()}})();`;
    document.head.append(script);
  };
  const next = async () => {
    const name = waiting.shift();
    if (name === undefined) {
      document.documentElement.classList.remove("drawing");
      document.documentElement.dataset.drawn = "yes";
      return;
    }
    await draw(name);
    setTimeout(next);
  };
  const start = async () => {
    if (typeof DecompressionStream === "undefined") {
      document.querySelectorAll(".chart").forEach((chart) => { chart.textContent = "This browser is too old to draw the chart; the tables have its figures."; });
      return;
    }
    document.documentElement.classList.add("drawing");
    if (waiting.length) await unpack();
    await next();
  };
  requestAnimationFrame(() => setTimeout(start));
})();
