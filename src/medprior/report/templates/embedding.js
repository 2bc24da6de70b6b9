(() => {
  const figure = document.querySelector(".embedding");
  if (!figure) return;
  const plot = figure.querySelector(".plot");
  const points = [...plot.querySelectorAll("use")];
  const spots = points.map((point) => [Number(point.getAttribute("x")), Number(point.getAttribute("y"))]);
  const rows = plot.dataset.rows.split(",");
  const radios = [...figure.querySelectorAll("input")];
  const keys = [...figure.querySelectorAll(".key")];
  const peek = figure.querySelector(".peek");
  const sheet = peek.querySelector("img");
  const halo = plot.querySelector(".halo");
  const across = Number(sheet.dataset.across);
  let current = -1;

  const groupOf = (radio, place) => {
    const style = parseInt(radio.dataset.codes[place], 36);
    const named = keys[radios.indexOf(radio)].querySelectorAll("li");
    const found = [...named].find((one) => one.dataset.style === String(style));
    return found ? found.textContent.trim() : "unknown";
  };

  const colour = (radio) => {
    points.forEach((point, place) => {
      const style = parseInt(radio.dataset.codes[place], 36);
      const hollow = plot.dataset.tested[place] === "1";
      point.setAttribute("href", `#${hollow ? "h" : "m"}${style}`);
      point.setAttribute("class", style ? `s${(style - 1) % 6 + 1}` : "s0");
    });
    keys.forEach((key, place) => { key.hidden = place !== radios.indexOf(radio); });
  };

  const show = (place) => {
    current = place;
    peek.hidden = place < 0;
    halo.classList.toggle("on", place >= 0);
    if (place < 0) return;
    halo.setAttribute("cx", spots[place][0]);
    halo.setAttribute("cy", spots[place][1]);
    const side = peek.querySelector(".tile").clientWidth;
    sheet.style.width = `${side * across}px`;
    sheet.style.left = `${-(place % across) * side}px`;
    sheet.style.top = `${-Math.floor(place / across) * side}px`;
    const said = radios.map((radio) => `${radio.parentElement.textContent.trim()}: ${groupOf(radio, place)}`);
    const part = plot.dataset.tested[place] === "1" ? "test" : "training";
    peek.querySelector("p").textContent = [`Row ${rows[place]}, ${part}`, ...said].join("; ");
  };

  const nearest = (x, y, allowed) => {
    let best = -1, least = Infinity;
    spots.forEach(([a, b], place) => {
      const distance = (a - x) ** 2 + (b - y) ** 2;
      if (distance < least && allowed(place, a - x, b - y)) [best, least] = [place, distance];
    });
    return [best, least];
  };

  const step = (dx, dy) => {
    const [x, y] = current < 0 ? [280, 280] : spots[current];
    const ahead = (place, a, b) => current < 0 || (place !== current && a * dx + b * dy > Math.abs(a * dy + b * dx));
    const [found] = nearest(x, y, ahead);
    if (found >= 0) show(found);
  };

  radios.forEach((radio) => radio.addEventListener("change", () => { colour(radio); show(current); }));
  plot.addEventListener("pointermove", (event) => {
    const box = plot.querySelector("svg").getBoundingClientRect();
    const scale = 560 / box.width;
    const [found, least] = nearest((event.clientX - box.left) * scale, (event.clientY - box.top) * scale, () => true);
    show(least < (14 * scale) ** 2 ? found : -1);
  });
  plot.addEventListener("pointerleave", () => show(-1));
  plot.addEventListener("blur", () => show(-1));
  plot.addEventListener("keydown", (event) => {
    const way = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!way && event.key !== "Escape") return;
    event.preventDefault();
    if (way) step(...way); else show(-1);
  });
  figure.querySelector("fieldset").hidden = radios.length < 2;
  colour(radios.find((radio) => radio.checked));
})();
