(() => {
  const place = document.getElementById("frames");
  if (!place) return;
  for (const series of DATA.frames) place.append(player(series));

  function player(series) {
    const pictures = series.pictures;
    const image = element("img", { class: "pixels frame-image", alt: "" });
    const said = element("output", {});
    const slider = element("input", {
      type: "range", min: 0, max: pictures.length - 1, value: pictures.length - 1, "aria-label": `step of ${series.name}`,
      oninput: () => show(),
    });
    let timer = null;
    const play = element("button", { type: "button", onclick: () => (timer === null ? start() : stop()) }, "Play");

    function show() {
      const picture = pictures[Number(slider.value)];
      image.src = picture.src;
      image.alt = `${series.name} at step ${picture.step}`;
      said.textContent = `step ${picture.step.toLocaleString("en")}`;
      slider.setAttribute("aria-valuetext", said.textContent);
    }
    function start() {
      if (Number(slider.value) === pictures.length - 1) slider.value = -1;
      play.textContent = "Stop";
      timer = setInterval(() => {
        if (Number(slider.value) === pictures.length - 1) return stop();
        slider.value = Number(slider.value) + 1;
        show();
      }, 350);
    }
    function stop() {
      clearInterval(timer);
      timer = null;
      play.textContent = "Play";
    }

    show();
    const few = series.left_out ? element("p", { class: "note" }, `${series.left_out} pictures between these are in the run folder.`) : null;
    const tools = pictures.length > 1 ? element("div", { class: "tools" }, play, element("label", { class: "grow" }, slider), said) : said;
    return element("div", { class: "frame" }, element("h3", {}, series.name), tools, image, few);
  }
})();
