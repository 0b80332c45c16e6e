"use strict";
(() => {
  document.documentElement.classList.add("js");

  // A box with controls shows those of its panels whose data-* attributes match what is chosen.
  for (const box of document.querySelectorAll("[data-switch]")) {
    const controls = box.querySelectorAll("[data-control]");
    const panels = box.querySelectorAll("[data-panel]");
    const apply = () => {
      const chosen = [...controls].filter((control) => control.type !== "radio" || control.checked);
      for (const panel of panels) {
        panel.hidden = chosen.some(({ dataset, value }) => panel.dataset[dataset.control] !== value);
      }
    };
    box.addEventListener("change", apply);
    apply();
  }

  // Two of three pictures on top of each other, the left one cut off at the divider.
  for (const viewer of document.querySelectorAll("[data-viewer]")) {
    const stage = viewer.querySelector(".stage");
    const handle = viewer.querySelector(".handle");
    const images = stage.querySelectorAll("img");
    const select = { left: viewer.querySelector('[data-side="left"]'), right: viewer.querySelector('[data-side="right"]') };
    const tag = { left: viewer.querySelector('[data-tag="left"]'), right: viewer.querySelector('[data-tag="right"]') };
    const shown = { left: select.left.value, right: select.right.value };
    let cut = 50;

    const place = (percent) => {
      cut = Math.min(100, Math.max(0, percent));
      stage.style.setProperty("--cut", `${cut}%`);
      const rounded = Math.round(cut);
      handle.setAttribute("aria-valuenow", String(rounded));
      handle.setAttribute("aria-valuetext", `${rounded} % ${tag.left.textContent}, ${100 - rounded} % ${tag.right.textContent}`);
    };
    const choose = (side) => {
      const other = side === "left" ? "right" : "left";
      if (select[side].value === select[other].value) select[other].value = shown[side]; // they change places
      for (const name of ["left", "right"]) {
        shown[name] = select[name].value;
        images.forEach((image, index) => image.classList.toggle(name, String(index) === shown[name]));
        tag[name].textContent = select[name].selectedOptions[0].textContent;
      }
      place(cut);
    };
    select.left.addEventListener("change", () => choose("left"));
    select.right.addEventListener("change", () => choose("right"));

    const follow = (event) => {
      const { left, width } = stage.getBoundingClientRect();
      place(((event.clientX - left) / width) * 100);
    };
    stage.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      event.preventDefault();
      stage.setPointerCapture(event.pointerId);
      handle.focus({ preventScroll: true });
      follow(event);
    });
    stage.addEventListener("pointermove", (event) => {
      if (stage.hasPointerCapture(event.pointerId)) follow(event);
    });
    handle.addEventListener("keydown", (event) => {
      const step = event.shiftKey ? 10 : 1;
      const target = {
        ArrowLeft: cut - step, ArrowDown: cut - step, ArrowRight: cut + step, ArrowUp: cut + step,
        PageDown: cut - 10, PageUp: cut + 10, Home: 0, End: 100,
      }[event.key];
      if (target === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      place(target);
    });
    choose("left");
  }
})();
