"use strict";
(() => {
  const make = (tag, attributes = {}, text = "") => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.textContent = text; // names come from files: never as HTML
    return element;
  };

  // --- tables that sort, verdicts that filter, closed parts that print ------------------------------------------------

  const numberOf = (text) => {
    const found = text.replace(/,/g, "").replace(/\u2212/g, "-").match(/^[+-]?\d*\.?\d+(e[+-]?\d+)?/i);
    return found ? Number(found[0]) : NaN;
  };
  const sortBy = (table, column, heading) => {
    const down = heading.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    heading.setAttribute("aria-sort", down ? "descending" : "ascending");
    const text = (row) => row.cells[column].textContent.trim();
    const rows = [...table.tBodies[0].rows];
    const numbers = rows.map((row) => numberOf(text(row)));
    const empty = (row) => ["", "\u2013"].includes(text(row));
    const numeric = rows.every((row, at) => empty(row) || !Number.isNaN(numbers[at]));
    const order = rows.map((row, at) => ({ row, key: numeric ? numbers[at] : text(row), empty: empty(row) }));
    const compare = (a, b) => (numeric ? a.key - b.key : a.key.localeCompare(b.key, "en", { numeric: true }));
    order.sort((a, b) => a.empty - b.empty || (a.empty ? 0 : (down ? -1 : 1) * compare(a, b)));
    table.tBodies[0].append(...order.map((one) => one.row));
  };
  for (const table of document.querySelectorAll("table.sortable")) {
    if (!table.tHead || !table.tBodies.length) continue;
    [...table.tHead.rows[0].cells].forEach((heading, column) => {
      const button = make("button", { type: "button", title: "Sort by this column" }, heading.textContent);
      button.addEventListener("click", () => sortBy(table, column, heading));
      heading.replaceChildren(button);
    });
  }

  const filter = document.getElementById("claims-filter");
  if (filter) {
    const rows = [...document.querySelectorAll("table.claims tbody tr")];
    const apply = () => {
      const wanted = [...filter.querySelectorAll("select")].map((select) => select.value);
      for (const row of rows) {
        const given = [...row.querySelectorAll("td[data-verdict]")].map((cell) => cell.dataset.verdict);
        row.hidden = wanted.some((verdict, at) => verdict && verdict !== given[at]);
      }
      filter.querySelector("output").textContent = `${rows.filter((row) => !row.hidden).length} of ${rows.length} statements`;
    };
    filter.hidden = false;
    filter.addEventListener("change", apply);
    apply();
  }

  let opened = [];
  window.addEventListener("beforeprint", () => {
    opened = [...document.querySelectorAll("main details:not([open])")];
    for (const one of opened) one.open = true;
  });
  window.addEventListener("afterprint", () => opened.forEach((one) => { one.open = false; }));

  // A link to a table that is closed opens it; contents are closed where they would fill a small screen.
  const reveal = () => {
    const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    const closed = target && target.querySelector(":scope > details:not([open])");
    if (closed) closed.open = true;
  };
  window.addEventListener("hashchange", reveal);
  reveal();
  if (window.matchMedia("(max-width: 69.99rem)").matches) document.querySelector("nav details").open = false;

  // --- the explorer ---------------------------------------------------------------------------------------------------

  const source = document.getElementById("grid-data");
  if (!source) return;
  const data = JSON.parse(source.textContent);
  const MEAN = "mean", NONE = "none", DASH = "\u2013";
  const controls = document.getElementById("grid-controls");
  const place = document.getElementById("grid-scroll");
  const detail = document.getElementById("grid-detail");
  const keyOf = (grid) => [grid.recipe, grid.method, grid.variant, grid.backend].join("~");
  const nameOf = (grid, recipe = true) => {
    const variant = [grid.variant, ...(grid.backend === "native" ? [] : [grid.backend])].join(", ");
    return `${data.methods[grid.method]} (${variant})${recipe ? `, recipe ${grid.recipe}` : ""}`;
  };
  const testsOf = new Map();
  for (const [task, set, metric, recipe, method, variant, otherRecipe, other, otherVariant, layer, dim, ...found] of data.tests) {
    const line = (...names) => [...names, "native"].join("~");
    const key = [task, set, metric, line(recipe, method, variant), line(otherRecipe, other, otherVariant), layer, dim];
    const [low, high, p, equivalent, alpha] = found;
    const known = testsOf.get(key.join("|"));
    if (!known || known.low === null) testsOf.set(key.join("|"), { low, high, p, equivalent, alpha }); // intervals tell more
  }
  const distinct = (grids, key) => [...new Set(grids.map(key))];

  // The choices in the order in which they depend on each other: each lists what is left of the grids by those before it.
  const CHOICES = [
    { id: "task", label: "Task", of: (grid) => grid.task, title: (value) => data.tasks[value] },
    { id: "set", label: "Test set", of: (grid) => grid.set, title: (value) => data.sets[value] },
    { id: "metric", label: "Metric", of: (grid) => grid.metric, title: (value) => data.metrics[value] },
    { id: "recipe", label: "Recipe", of: (grid) => grid.recipe, title: (value) => value },
    { id: "line", label: "Method", of: keyOf, title: (value, grid) => nameOf(grid, false) },
  ];
  const state = {};
  let view = null; // what is shown: the grid, its rows of { value, seeds, base } and so on

  const baselinesOf = (grid) => {
    const same = data.grids.filter((one) => one.task === grid.task && one.set === grid.set && one.metric === grid.metric
      && keyOf(one) !== keyOf(grid) && one.layers.some((layer) => grid.layers.includes(layer)) && one.dims.some((dim) => grid.dims.includes(dim)));
    return [...same.filter((one) => one.recipe === grid.recipe), ...same.filter((one) => one.recipe !== grid.recipe)];
  };
  const isBaseline = (grid) => (data.baselines[grid.task] || []).includes(grid.method);
  const shared = (one, other) => one.layers.filter((layer) => other.layers.includes(layer)).reduce((sum, layer) => (
    sum + one.dims.filter((dim) => cellOf(one, layer, dim) && cellOf(other, layer, dim)).length), 0);
  const cellOf = (grid, layer, dim) => Object.values(grid.seeds).some((rows) => (
    (rows[grid.layers.indexOf(layer)] || [])[grid.dims.indexOf(dim)] ?? null) !== null);
  /** The experiment's baseline that has the most of the grid's cells, of the same recipe. */
  const firstBaseline = (grid, found) => {
    const own = found.filter((one) => one.recipe === grid.recipe && isBaseline(one) && one.method !== grid.method);
    own.sort((one, other) => shared(grid, other) - shared(grid, one));
    return own.length ? keyOf(own[0]) : NONE;
  };

  /** Makes the state valid, keeping of it what there is; returns the options of each choice. */
  const settle = () => {
    let left = data.grids;
    const options = {};
    for (const choice of CHOICES) {
      const values = distinct(left, choice.of);
      options[choice.id] = values.map((value) => [value, choice.title(value, left.find((grid) => choice.of(grid) === value))]);
      if (!values.includes(state[choice.id])) state[choice.id] = choice.of(left.find((grid) => !isBaseline(grid)) || left[0]);
      left = left.filter((grid) => choice.of(grid) === state[choice.id]);
    }
    const grid = left[0];
    const others = baselinesOf(grid);
    options.base = [[NONE, "none"], ...others.map((one) => [keyOf(one), nameOf(one, one.recipe !== grid.recipe)])];
    if (!options.base.some(([value]) => value === state.base)) state.base = firstBaseline(grid, others);
    const base = others.find((one) => keyOf(one) === state.base) || null;
    const seeds = Object.keys(grid.seeds).filter((seed) => !base || seed in base.seeds);
    options.seed = [[MEAN, Object.keys(grid.seeds).length > 1 ? `mean of ${Object.keys(grid.seeds).length}` : "the only one"],
      ...(seeds.length > 1 ? seeds.map((seed) => [seed, seed]) : [])];
    if (!options.seed.some(([value]) => value === state.seed)) state.seed = MEAN;
    options.show = [...(base ? [["difference", "difference from the baseline"]] : []), ["value", "score"]];
    if (!options.show.some(([value]) => value === state.show)) state.show = options.show[0][0];
    return { options, grid, base };
  };

  const scoreAt = (grid, layer, dim) => {
    const row = grid.layers.indexOf(layer), column = grid.dims.indexOf(dim);
    if (row < 0 || column < 0) return null;
    const names = state.seed === MEAN ? Object.keys(grid.seeds) : [state.seed];
    const values = names.map((seed) => grid.seeds[seed][row][column]).filter((value) => value !== null);
    if (!values.length) return null;
    const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
    const spread = values.reduce((sum, value) => sum + (value - mean) ** 2, 0);
    return { mean, seeds: values.length, sd: values.length > 1 ? Math.sqrt(spread / (values.length - 1)) : null };
  };
  const testAt = (grid, base, layer, dim) => {
    if (state.seed !== MEAN) return null; // the tests are of the means
    const at = (first, second) => testsOf.get([grid.task, grid.set, grid.metric, keyOf(first), keyOf(second), layer, dim].join("|"));
    const found = at(grid, base), turned = at(base, grid);
    if (found) return found;
    if (!turned) return null;
    return { ...turned, low: turned.high === null ? null : -turned.high, high: turned.low === null ? null : -turned.low };
  };
  const plain = (value) => value.toFixed(4).replace("-", "\u2212");
  const signed = (value) => (value < 0 ? "\u2212" : "+") + Math.abs(value).toFixed(4);

  // Colours by lightness first, so that they can be told apart without hue: cividis (Nunez et al. 2018) and RdBu (ColorBrewer).
  const SCORES = [[0, 34, 78], [53, 69, 108], [102, 105, 112], [148, 142, 119], [200, 184, 102], [254, 232, 56]];
  const DIFFERENCES = [[178, 24, 43], [239, 138, 98], [253, 219, 199], [247, 247, 247], [209, 229, 240], [103, 169, 207], [33, 102, 172]];
  const colourAt = (stops, share) => {
    const at = Math.min(Math.max(share, 0), 1) * (stops.length - 1), low = Math.min(Math.floor(at), stops.length - 2);
    return stops[low].map((part, channel) => Math.round(part + (stops[low + 1][channel] - part) * (at - low)));
  };
  const paint = (cell, rgb) => {
    const [red, green, blue] = rgb.map((part) => (part / 255 <= 0.04045 ? part / 255 / 12.92 : ((part / 255 + 0.055) / 1.055) ** 2.4));
    cell.style.background = `rgb(${rgb.join(",")})`;
    cell.style.color = 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.18 ? "#000" : "#fff"; // WCAG's relative luminance
  };

  const describe = (one) => {
    if (!one.score) return `Layer ${one.layer}, dim ${one.dim}: not evaluated.`;
    const seeds = ({ seeds, sd }) => (sd === null ? "" : ` (sd ${sd.toFixed(4)} over ${seeds} seeds)`);
    let text = `Layer ${one.layer}, dim ${one.dim}: ${nameOf(view.grid, false)} ${plain(one.score.mean)}${seeds(one.score)}`;
    if (!view.base) return `${text}.`;
    if (!one.base) return `${text}; ${nameOf(view.base, false)} was not evaluated here.`;
    text += `; ${nameOf(view.base, view.base.recipe !== view.grid.recipe)} ${plain(one.base.mean)}${seeds(one.base)}; difference ${signed(one.difference)}`;
    const test = testAt(view.grid, view.base, one.layer, one.dim);
    if (!test) return `${text}; not tested.`;
    if (test.low !== null) text += `, ${test.alpha === null ? "" : `${Math.round((1 - test.alpha) * 100)} % `}interval ${signed(test.low)} to ${signed(test.high)}`;
    text += `, p ${test.p < 0.0001 ? "< 0.0001" : `= ${test.p.toFixed(4)}`} after Holm's correction`;
    return `${text}${test.equivalent ? ", equivalent within the margin of the tests" : ""}.`;
  };

  const draw = (grid, base) => {
    const rows = grid.layers.map((layer) => grid.dims.map((dim) => {
      const score = scoreAt(grid, layer, dim), other = base && scoreAt(base, layer, dim);
      return { layer, dim, score, base: other, difference: score && other ? score.mean - other.mean : null };
    }));
    const differs = state.show === "difference" && base;
    const shownOf = (one) => (differs ? one.difference : one.score && one.score.mean);
    view = { grid, base, rows, shownOf, differs };
    const values = rows.flat().map(shownOf).filter((value) => value !== null);
    const low = Math.min(...values), high = Math.max(...values);
    const reach = Math.max(...values.map(Math.abs), 1e-3);
    const table = make("table", { id: "grid", "aria-labelledby": "grid-title" });
    const against = differs ? ` minus ${nameOf(base, base.recipe !== grid.recipe)}` : "";
    const title = `${nameOf(grid)}${against}: ${data.metrics[grid.metric]}, ${data.sets[grid.set]}`;
    document.getElementById("grid-title").textContent = title;
    const head = table.createTHead().insertRow();
    head.append(make("th", { scope: "col" }, "layer \\ dim"), ...grid.dims.map((dim) => make("th", { scope: "col", class: "number" }, dim)));
    const body = table.createTBody();
    rows.forEach((row, at) => {
      const line = body.insertRow();
      line.append(make("th", { scope: "row" }, grid.layers[at]));
      row.forEach((one, column) => {
        const shown = shownOf(one);
        const text = shown === null ? DASH : differs ? signed(shown) : plain(shown);
        const cell = make("td", { class: shown === null ? "number none" : "number", tabindex: at || column ? "-1" : "0", "data-layer": one.layer, "data-dim": one.dim }, text);
        if (shown !== null) paint(cell, differs ? colourAt(DIFFERENCES, (shown / reach + 1) / 2) : colourAt(SCORES, high > low ? (shown - low) / (high - low) : 0.5));
        const tell = () => { detail.textContent = describe(one); };
        cell.addEventListener("mouseenter", tell);
        cell.addEventListener("focus", tell);
        line.append(cell);
      });
    });
    table.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      const cell = event.target.closest("td");
      if (!step || !cell) return;
      const next = body.rows[cell.parentNode.sectionRowIndex + step[0]]?.cells[cell.cellIndex + step[1]];
      event.preventDefault();
      if (!next || next.tagName !== "TD") return;
      cell.tabIndex = -1;
      next.tabIndex = 0;
      next.focus();
    });
    place.replaceChildren(table);
    detail.textContent = "";
  };

  const IDS = [...CHOICES.map((choice) => choice.id), "base", "seed", "show"];
  const address = () => `#grid?${new URLSearchParams(IDS.map((id) => [id, state[id]]))}`;
  const selects = {};
  for (const [id, label] of [...CHOICES.map((choice) => [choice.id, choice.label]), ["base", "Baseline"], ["seed", "Seed"], ["show", "Show"]]) {
    const box = make("label", {}, label);
    selects[id] = make("select", { name: id });
    selects[id].addEventListener("change", () => {
      state[id] = selects[id].value;
      if (id === "base") state.show = null; // a new baseline is chosen to see the difference
      refresh();
      history.replaceState(null, "", address());
    });
    box.append(selects[id]);
    controls.append(box);
  }
  const refresh = () => {
    const { options, grid, base } = settle();
    for (const id of IDS) {
      selects[id].replaceChildren(...options[id].map(([value, title]) => make("option", { value }, title)));
      selects[id].value = state[id];
      selects[id].disabled = options[id].length < 2;
    }
    draw(grid, base);
  };
  const follow = () => {
    if (!location.hash.startsWith("#grid?")) return false;
    for (const [id, value] of new URLSearchParams(location.hash.slice("#grid?".length))) if (IDS.includes(id)) state[id] = value;
    refresh();
    document.getElementById("explorer").scrollIntoView();
    return true;
  };
  window.addEventListener("hashchange", follow);
  if (!follow()) refresh();

  const asText = (separator) => {
    const quote = (entry) => (separator === "," && /[",\n]/.test(entry) ? `"${entry.replace(/"/g, '""')}"` : `${entry}`);
    const lines = [["layer", ...view.grid.dims], ...view.rows.map((row, at) => [view.grid.layers[at], ...row.map((one) => {
      const shown = view.shownOf(one);
      return shown === null ? "" : Number(shown.toFixed(7));
    })])];
    return `${lines.map((line) => line.map(quote).join(separator)).join("\n")}\n`;
  };
  const copy = async (text, what) => {
    const told = document.getElementById("copied");
    try {
      await navigator.clipboard.writeText(text);
    } catch { // files opened from disk may not be let at the clipboard
      const area = make("textarea", { readonly: "" });
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
    }
    told.textContent = `${what} copied.`;
  };
  document.getElementById("copy-tsv").addEventListener("click", () => copy(asText("\t"), "Grid"));
  document.getElementById("copy-csv").addEventListener("click", () => copy(asText(","), "Grid"));
  document.getElementById("copy-link").addEventListener("click", () => copy(location.href.split("#")[0] + address(), "Link"));
})();
