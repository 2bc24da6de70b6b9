"use strict";
(() => {
  const figure = document.querySelector(".curves");
  if (!figure) return;
  const plot = figure.querySelector(".plot");
  const readings = [...plot.querySelectorAll(".reading")];
  let current = -1;

  const toggle = (box) => {
    for (const part of figure.querySelectorAll(`[data-arm="${box.dataset.toggle}"]`))
      part.classList.toggle("off", !box.checked);
  };

  const show = (index) => {
    current = index;
    readings.forEach((reading, place) => { reading.hidden = place !== index; });
    for (const column of plot.querySelectorAll(".column")) {
      const on = Number(column.dataset.column) === index;
      column.classList.toggle("on", on);
      if (on && column.getClientRects().length) place(column.querySelector(".cursor"), readings[index]);
    }
  };

  const place = (cursor, reading) => {
    const frame = plot.getBoundingClientRect();
    const x = cursor.getBoundingClientRect().left - frame.left;
    const left = x < frame.width / 2 ? x + 14 : x - 14 - reading.offsetWidth;
    reading.style.left = `${Math.max(0, Math.min(left, frame.width - reading.offsetWidth))}px`;
  };

  for (const box of figure.querySelectorAll("[data-toggle]")) {
    box.addEventListener("change", () => toggle(box));
    toggle(box);
  }
  for (const column of plot.querySelectorAll(".column"))
    column.addEventListener("pointerenter", () => show(Number(column.dataset.column)));
  plot.addEventListener("pointerleave", () => show(-1));
  plot.addEventListener("blur", () => show(-1));
  plot.addEventListener("keydown", (event) => {
    const last = readings.length - 1;
    const next = {
      ArrowRight: Math.min(current + 1, last),
      ArrowLeft: current < 0 ? last : Math.max(current - 1, 0),
      Home: 0,
      End: last,
      Escape: -1,
    }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    show(next);
  });
})();
