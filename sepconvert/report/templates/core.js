// The page's state: its data, and the chosen layer, which every part of the page shows and can change.
const page = (() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const listeners = [];
  const state = { data, chosen: -1 };
  state.onChoose = (listener) => listeners.push(listener);
  state.choose = (index) => {
    if (index === state.chosen || !data.layers[index]) return;
    state.chosen = index;
    for (const listener of listeners) listener(index);
  };
  return state;
})();

(() => {
  const theme = document.getElementById("theme");
  const root = document.documentElement;
  const remembered = (value) => {
    // Storage is forbidden to pages from disk in some browsers; the page then just forgets.
    try { return value === undefined ? localStorage.getItem("sepconvert-theme") : localStorage.setItem("sepconvert-theme", value); } catch { return null; }
  };
  const isDark = () => (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const name = () => {
    const label = document.createElement("span");
    label.textContent = " theme";
    theme.replaceChildren(isDark() ? "Light" : "Dark", label);
  };
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

