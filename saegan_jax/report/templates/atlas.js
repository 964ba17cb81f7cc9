(() => {
  const atlas = DATA.atlas;
  if (!atlas) return;
  const columns = atlas.columns, count = columns.unit.length;
  const rowOf = new Map(columns.unit.map((unit, row) => [unit, row]));
  const bitmaps = {}, waiting = {};
  for (const [name, sheet] of Object.entries(atlas.sheets)) {
    waiting[name] = [];
    const image = Object.assign(new Image(), { src: sheet.src });
    // A bitmap is decoded once; an image may be decoded again for every sprite.
    image.decode().then(() => createImageBitmap(image)).then((bitmap) => {
      bitmaps[name] = bitmap;
      waiting[name].splice(0).forEach((draw) => draw());
    });
  }
  const byId = (id) => document.getElementById(id);
  const [cards, search, sort, order, found, dialog] = ["cards", "search", "sort", "order", "found", "feature"].map(byId);

  // Images of a sheet on one canvas, so many in a row, with a pixel between them.
  function sprites(name, indices, across, label) {
    const sheet = atlas.sheets[name], { width, height } = sheet, rows = Math.ceil(indices.length / across);
    const canvas = element("canvas", { width: across * (width + 1) - 1, height: rows * (height + 1) - 1, role: "img", "aria-label": label });
    const draw = () => {
      const context = canvas.getContext("2d");
      indices.forEach((index, i) => {
        const left = (index % sheet.columns) * width, top = Math.floor(index / sheet.columns) * height;
        const x = (i % across) * (width + 1), y = Math.floor(i / across) * (height + 1);
        context.drawImage(bitmaps[name], left, top, width, height, x, y, width, height);
      });
    };
    if (bitmaps[name]) draw(); else waiting[name].push(draw);
    return canvas;
  }

  const sprite = (name, index, label) => sprites(name, [index], 1, label);

  const labelled = atlas.class_names !== null;
  const never = (row) => columns.density[row] === 0;
  const className = (row) => (never(row) ? "never active" : labelled ? `class ${atlas.class_names[columns.label[row]]}` : "");
  const per = (value, digits = 3) => (value === null ? "–" : `${shown(100 * value, digits)} %`);
  const SORTS = {
    number: columns.unit, density: columns.density, strength: columns.strength,
    ...(labelled ? { "class purity": columns.purity, class: columns.label } : {}),
    ...(columns.effect ? { "effect on images": columns.effect } : {}),
  };
  const NUMBERS = { density: columns.density, strength: columns.strength, purity: columns.purity, effect: columns.effect, feature: columns.unit };
  for (const name of Object.keys(SORTS)) sort.append(element("option", { value: name }, name));
  sort.value = "density";

  // Every word must hold: a number of a feature, a comparison such as density<0.01, or a part of the class's name.
  function matches(row, words) {
    return words.every((word) => {
      const compared = word.match(/^([a-z]+)(<=|>=|<|>|=)([\d.e-]+)$/);
      if (compared && NUMBERS[compared[1]]) {
        const value = NUMBERS[compared[1]][row], limit = Number(compared[3]);
        if (value === null) return false;
        return { "<": value < limit, ">": value > limit, "<=": value <= limit, ">=": value >= limit, "=": value === limit }[compared[2]];
      }
      if (/^#?\d+$/.test(word) && !words.includes("class")) return String(columns.unit[row]) === word.replace("#", "");
      return className(row).toLowerCase().split(" ").some((part) => (/^\d+$/.test(word) ? part === word : part.includes(word)));
    });
  }

  let listed = [], current = 0;
  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) {
      if (isIntersecting && !target.firstChild) target.append(...content(Number(target.dataset.row)));
      else if (!isIntersecting && document.activeElement !== target) target.replaceChildren();
    }
  }, { root: cards, rootMargin: "400px" });

  function content(row) {
    const unit = columns.unit[row];
    const text = element("div", { class: "card-text" }, element("b", {}, `#${unit}`), element("span", {}, `active ${per(columns.density[row], 2)}`),
      element("span", {}, className(row)), never(row) || !labelled ? null : element("span", {}, `purity ${per(columns.purity[row], 2)}`));
    const tops = columns.top[row].filter((index) => index >= 0);
    const images = tops.length ? [sprites("images", tops, 4, `the images on which feature ${unit} is most active`)] : [];
    return [element("div", { class: "card-head" }, sprite("atoms", row, `atom of feature ${unit}`), text), element("div", { class: "card-tops" }, ...images)];
  }

  function card(row, position) {
    const made = element("div", {
      class: "card", role: "listitem", tabindex: position === 0 ? 0 : -1, "data-row": row, "aria-label": [`feature ${columns.unit[row]}`, className(row)].filter(Boolean).join(", "),
      onclick: () => { current = position; open(row); },
      onfocus: () => mark(position),
    });
    observer.observe(made);
    return made;
  }

  function mark(position) {
    cards.children[current]?.setAttribute("tabindex", -1);
    current = position;
    cards.children[current]?.setAttribute("tabindex", 0);
  }

  function list() {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const key = SORTS[sort.value], sign = order.getAttribute("aria-pressed") === "true" ? -1 : 1;
    const value = (row) => (key[row] === null ? -Infinity : key[row]);
    listed = [...Array(count).keys()].filter((row) => matches(row, words));
    listed.sort((a, b) => sign * (value(a) - value(b)) || a - b);
    observer.disconnect();
    current = 0;
    cards.replaceChildren(...listed.map(card));
    cards.scrollTop = 0;
    found.textContent = listed.length === count ? `${count} features` : `${listed.length} of ${count} features`;
  }

  function stats(row) {
    const rows = [
      ["active on", `${per(columns.density[row])} of ${atlas.n_images.toLocaleString("en")} images`],
      ["mean activity", shown(columns.strength[row])],
      ...(labelled ? [["class", never(row) ? "never active" : `${className(row)}: ${per(columns.purity[row])} of its images (floor ${per(atlas.purity_floor)})`]] : []),
      ...(columns.effect ? [["effect on images", `${shown(columns.effect[row])} mean change of a pixel, off to usual`]] : []),
    ];
    return element("table", {}, element("tbody", {}, ...rows.map(([name, value]) => element("tr", {}, element("th", { scope: "row" }, name), element("td", {}, value)))));
  }

  function tops(row) {
    return columns.top[row].map((index, i) => (index < 0 ? null : element("figure", {}, sprite("images", index, "image"),
      element("figcaption", {}, `${labelled ? `${atlas.class_names[atlas.image_label[index]]} · ` : ""}${shown(columns.activity[row][i], 2)}`))));
  }

  function strip(row) {
    const { levels, strip_rows: rows } = atlas;
    const cells = [...Array(rows * levels.length).keys()].map((i) => sprite("strips", row * rows * levels.length + i, `at ${levels[i % levels.length]} times its usual activity`));
    return element("div", { class: "strip", style: `--levels:${levels.length}` }, ...levels.map((level) => element("span", {}, level ? `× ${level}` : "off")), ...cells);
  }

  function near(row) {
    return columns.nearest[row].map((unit, i) => element("button", { type: "button", onclick: () => open(rowOf.get(unit)) },
      sprite("atoms", rowOf.get(unit), `atom of feature ${unit}`), `#${unit}`, element("br"), shown(columns.cosine[row][i], 2)));
  }

  function open(row) {
    const unit = columns.unit[row];
    const head = element("div", { class: "dialog-head" }, element("h3", { id: "feature-title" }, `Feature ${unit}`),
      element("button", { type: "button", "aria-label": "previous feature", onclick: () => step(row, -1) }, "←"),
      element("button", { type: "button", "aria-label": "next feature", onclick: () => step(row, 1) }, "→"),
      element("button", { type: "button", "aria-label": "close", onclick: () => dialog.close() }, "✕"));
    const part = (title, ...content) => [element("h3", {}, title), ...content];
    const images = tops(row).filter(Boolean);
    dialog.replaceChildren(head, element("div", { class: "feature-top" }, sprite("atoms", row, `atom of feature ${unit}`), stats(row)),
      ...(images.length ? part("Most active on", element("div", { class: "row" }, ...images)) : []),
      ...(atlas.levels.length ? part("Generated images with it turned down and up, times its usual activity", strip(row)) : []),
      ...(columns.nearest[row].length ? part("Nearest features, by the cosine of their atoms", element("div", { class: "row" }, ...near(row))) : []));
    dialog.dataset.row = row;
    history.replaceState(null, "", `#feature-${unit}`);
    if (!dialog.open) dialog.showModal();
    dialog.scrollTop = 0;
  }

  function step(row, by) {
    const at = listed.indexOf(row);
    const next = listed[(at + by + listed.length) % listed.length];
    if (next !== undefined) open(next);
  }

  dialog.addEventListener("close", () => {
    history.replaceState(null, "", "#atlas");
    const at = listed.indexOf(Number(dialog.dataset.row));
    if (at >= 0) { mark(at); cards.children[at].focus(); }
  });
  dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
  dialog.addEventListener("keydown", (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (by) { event.preventDefault(); step(Number(dialog.dataset.row), by); }
  });
  cards.addEventListener("keydown", (event) => {
    const wide = getComputedStyle(cards).gridTemplateColumns.split(" ").length;
    const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -wide, ArrowDown: wide, Home: -count, End: count }[event.key];
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); open(listed[current]); }
    if (!by || !listed.length) return;
    event.preventDefault();
    mark(Math.min(Math.max(current + by, 0), listed.length - 1));
    cards.children[current].focus();
  });
  document.addEventListener("keydown", (event) => {
    const typing = ["INPUT", "SELECT", "TEXTAREA"].includes(document.activeElement.tagName);
    if (event.key === "/" && !typing && !dialog.open) { event.preventDefault(); search.focus(); }
  });
  search.addEventListener("input", list);
  search.addEventListener("keydown", (event) => {
    if ((event.key === "Enter" || event.key === "ArrowDown") && listed.length) { event.preventDefault(); cards.children[0].focus(); }
  });
  sort.addEventListener("change", list);
  order.addEventListener("click", () => {
    const falling = order.getAttribute("aria-pressed") !== "true";
    order.setAttribute("aria-pressed", String(falling));
    order.textContent = falling ? "↓" : "↑";
    list();
  });
  const all = count === atlas.d_sae ? `All ${count} features` : `The ${count} densest of ${atlas.d_sae} features`;
  byId("atlas-about").textContent = `${all}: atom, density, and the images on which each is most active, of ${atlas.n_images.toLocaleString("en")} training images.`;
  list();
  const linked = location.hash.match(/^#feature-(\d+)$/);
  if (linked && rowOf.has(Number(linked[1]))) open(rowOf.get(Number(linked[1])));
})();
