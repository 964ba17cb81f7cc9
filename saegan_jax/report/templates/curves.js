(() => {
  const place = document.getElementById("panels");
  if (!place) return;
  const WIDTH = 360, HEIGHT = 200, LEFT = 46, RIGHT = 8, TOP = 8, BOTTOM = 20;
  for (const panel of DATA.curves) place.append(element("div", { class: "panel" }, ...drawn(panel)));

  // Three to six round numbers between two.
  function ticks(low, high) {
    const raw = (high - low) / 4, power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
    const found = [];
    for (let t = Math.ceil(low / step) * step; t <= high + step * 1e-9; t += step) found.push(Math.abs(t) < step * 1e-9 ? 0 : t);
    return found;
  }

  function mean(line, i) {
    const values = line.values.map((seed) => seed[i]);
    return values.includes(null) ? null : values.reduce((a, b) => a + b, 0) / values.length;
  }

  function path(steps, values, x, y) {
    let d = "", pen = "M";
    steps.forEach((step, i) => {
      if (values[i] === null) { pen = "M"; return; }
      d += `${pen}${x(step).toFixed(1)} ${y(values[i]).toFixed(1)}`;
      pen = "L";
    });
    return d;
  }

  function drawn(panel) {
    const off = new Set();
    const picture = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img" });
    picture.setAttribute("aria-label", `${panel.phase} ${panel.title}: ${panel.lines.map((line) => line.name).join(", ")}`);
    const colour = (i) => `var(--c${i % 8})`;
    const said = panel.lines.map(() => element("span", {}));
    const legend = element("div", { class: "legend" }, ...panel.lines.map((line, i) => element("button", {
      type: "button", "aria-pressed": "true",
      onclick: (event) => {
        if (off.has(i)) off.delete(i); else off.add(i);
        event.currentTarget.setAttribute("aria-pressed", String(!off.has(i)));
        redraw();
      },
    }, element("span", { class: "swatch", style: `background:${colour(i)}` }), line.name, " ", said[i])));
    const head = [panel.phase, panel.title].filter(Boolean).join(": ");
    const seeds = Math.max(...panel.lines.map((line) => line.values.length));
    let scale = null;

    function redraw() {
      const lines = panel.lines.map((line, i) => ({ ...line, i })).filter((line) => !off.has(line.i));
      const all = lines.flatMap((line) => line.values.flat()).filter((v) => v !== null);
      const steps = panel.lines.flatMap((line) => line.steps);
      let low = Math.min(...all), high = Math.max(...all);
      if (!all.length) [low, high] = [0, 1];
      if (low === high) [low, high] = [low - (Math.abs(low) || 1) / 2, high + (Math.abs(high) || 1) / 2];
      const first = Math.min(...steps), last = Math.max(...steps, first + 1);
      const x = (step) => LEFT + ((step - first) / (last - first)) * (WIDTH - LEFT - RIGHT);
      const y = (v) => TOP + ((high - v) / (high - low)) * (HEIGHT - TOP - BOTTOM);
      scale = { first, last };
      picture.replaceChildren();
      for (const t of ticks(low, high)) {
        picture.append(svg("line", { class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(t), y2: y(t) }),
          svg("text", { x: LEFT - 5, y: y(t) + 4, "text-anchor": "end" }, shown(t, 4)));
      }
      for (const t of ticks(first, last)) {
        picture.append(svg("text", { x: x(t), y: HEIGHT - 4, "text-anchor": x(t) > WIDTH - 25 ? "end" : "middle" }, t >= 1000 ? `${shown(t / 1000, 4)}k` : shown(t)));
      }
      for (const alarm of panel.alarms) {
        picture.append(svg("line", { class: "alarm", x1: x(alarm.step), x2: x(alarm.step), y1: TOP, y2: HEIGHT - BOTTOM },
          svg("title", {}, `${alarm.kind} begins at step ${alarm.step}`)));
      }
      for (const line of lines) {
        const stroke = `stroke:${colour(line.i)}`;
        if (line.values.length > 1) for (const seed of line.values) {
          picture.append(svg("path", { class: "seed", style: stroke, d: path(line.steps, seed, x, y) }));
        }
        const means = line.steps.map((_, i) => mean(line, i));
        picture.append(svg("path", { class: "mean", style: stroke, d: path(line.steps, means, x, y) }));
        if (line.steps.length === 1 && means[0] !== null) {
          picture.append(svg("circle", { cx: x(line.steps[0]), cy: y(means[0]), r: 3, style: `fill:${colour(line.i)}` }));
        }
      }
    }

    function point(event) {
      const box = picture.getBoundingClientRect();
      const ratio = Math.min(box.width / WIDTH, box.height / HEIGHT), margin = (box.width - WIDTH * ratio) / 2;
      const at = (event.clientX - box.left - margin) / ratio;
      const step = scale.first + ((at - LEFT) / (WIDTH - LEFT - RIGHT)) * (scale.last - scale.first);
      picture.querySelector(".cursor")?.remove();
      if (at < LEFT || at > WIDTH - RIGHT) return leave();
      const nearest = (steps) => steps.reduce((best, s, j) => (Math.abs(s - step) < Math.abs(steps[best] - step) ? j : best), 0);
      const places = panel.lines.map((line) => nearest(line.steps));
      panel.lines.forEach((line, i) => { said[i].textContent = shown(mean(line, places[i]), 4); });
      const steps = panel.lines.map((line, i) => line.steps[places[i]]);
      title.textContent = `${head} at step ${steps[nearest(steps)].toLocaleString("en")}`;
      picture.append(svg("line", { class: "cursor", x1: at, x2: at, y1: TOP, y2: HEIGHT - BOTTOM }));
    }
    function leave() {
      picture.querySelector(".cursor")?.remove();
      said.forEach((span) => { span.textContent = ""; });
      title.textContent = plain;
    }

    const plain = seeds > 1 ? `${head} (mean of ${seeds} seeds)` : head;
    const title = element("h3", {}, plain);
    picture.addEventListener("pointermove", point);
    picture.addEventListener("pointerdown", point);
    picture.addEventListener("pointerleave", leave);
    redraw();
    return [title, picture, legend];
  }
})();
