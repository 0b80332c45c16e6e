"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  const data = JSON.parse($("data").textContent);
  const { frames, rows, columns, width, height } = data;
  const TOKEN = 8; // luma samples a token is wide and high
  const canvas = $("picture");
  const ink = canvas.getContext("2d");
  const stage = $("stage");
  const divider = $("divider");
  const video = document.createElement("video");
  const heat = document.createElement("canvas"); // one pixel a token
  const scratch = document.createElement("canvas"); // the decoded picture in grey
  let bits, vectors; // [T, h, w] in parts of a bit, [T, h, w, 2] in quarter samples
  let cut = 50; // % of the width left of the divider
  let layer = "none";
  let current = 0; // index in `frames`
  let presented = -1; // index of the frame the video has a picture of, -1: none yet; a seek ends before its picture is there

  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  const inflated = (text) =>
    new Response(new Blob([bytes(text)]).stream().pipeThrough(new DecompressionStream("deflate"))).arrayBuffer();
  const fail = (reason) => {
    $("trouble").textContent = reason;
    $("trouble").hidden = false;
  };

  // Colours: as `bsqcodec.view.heat` has them.
  const place = (value) => Math.log2(1 + Math.min(value, data.top)) / Math.log2(1 + data.top);
  const colour = (at) => {
    const scaled = Math.min(1, Math.max(0, at)) * (data.stops.length - 1);
    const low = Math.min(data.stops.length - 2, Math.floor(scaled));
    return data.stops[low].map((value, i) => value + (data.stops[low + 1][i] - value) * (scaled - low));
  };
  const table = Array.from({ length: 256 }, (_, i) => colour(i / 255));

  const bitsAt = (row, column) => bits[(current * rows + row) * columns + column] / data.bitParts;
  const vectorAt = (row, column) => {
    const at = ((current * rows + row) * columns + column) * 2;
    return [vectors[at] / 4, vectors[at + 1] / 4]; // luma samples
  };

  const draw = () => {
    const split = Math.round((width * cut) / 100);
    const below = data.both ? data.half : 0;
    ink.drawImage(video, 0, below, width, height, 0, 0, width, height);
    if (layer === "bits" || layer === "both") drawHeat(below);
    if (layer === "motion" || layer === "both") drawMotion();
    if (split > 0) ink.drawImage(video, 0, 0, split, height, 0, 0, split, height);
    if (presented >= 0) canvas.dataset.frame = String(presented);
  };
  const drawHeat = (below) => {
    const pen = heat.getContext("2d");
    const image = pen.createImageData(columns, rows);
    for (let i = 0; i < rows * columns; i++) {
      const at = place(bits[current * rows * columns + i] / data.bitParts);
      image.data.set(table[Math.round(at * 255)], i * 4);
      image.data[i * 4 + 3] = Math.round((data.cover[0] + data.cover[1] * at) * 255);
    }
    pen.putImageData(image, 0, 0);
    const grey = scratch.getContext("2d");
    grey.filter = "grayscale(1)";
    grey.drawImage(video, 0, below, width, height, 0, 0, width, height);
    ink.drawImage(scratch, 0, 0);
    ink.imageSmoothingEnabled = false;
    ink.drawImage(heat, 0, 0, columns, rows, 0, 0, columns * TOKEN, rows * TOKEN);
  };
  const drawMotion = () => {
    const lines = new Path2D();
    const ends = new Path2D();
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        const [dx, dy] = vectorAt(row, column);
        if (dx === 0 && dy === 0) continue;
        const [x, y] = [(column + 0.5) * TOKEN, (row + 0.5) * TOKEN];
        lines.moveTo(x, y);
        lines.lineTo(x + dx, y + dy);
        ends.rect(x - 1, y - 1, 2, 2);
      }
    }
    for (const [style, wide] of [["#000000", 2.5], ["#7df9ff", 1.2]]) {
      ink.strokeStyle = style;
      ink.lineWidth = wide;
      ink.stroke(lines);
    }
    ink.fillStyle = "#ffffff";
    ink.fill(ends);
  };

  const count = (value) => Math.round(value).toLocaleString("en");
  const tell = () => {
    const frame = frames[current];
    $("now-frame").textContent = `${frame.number}, ${frame.time.toFixed(2)} s`;
    $("now-tokens").textContent = `${count(frame.tokens)} bits`;
    $("now-motion").textContent = frame.first ? "none" : `${count(frame.motion)} bits`;
    $("now-psnr").textContent = frame.psnr === null ? "-" : `${frame.psnr.toFixed(2)} dB`;
    $("seek").value = String(current);
    $("seek").setAttribute("aria-valuetext", `frame ${frame.number}`);
    $("cursor").style.left = `calc(4.25rem + (100% - 4.25rem) * ${(current + 0.5) / frames.length})`;
    tellToken();
  };
  let pointed = null; // [row, column] of a token
  const tellToken = () => {
    if (!pointed) return;
    const [row, column] = pointed;
    const [dx, dy] = vectorAt(row, column);
    const way = dx || dy ? `, taken from ${dx} px right, ${dy} px down` : "";
    $("now-token").textContent = `token ${column}, ${row}: ${bitsAt(row, column).toFixed(1)} bits${way}`;
  };

  // Time and frames. The video's times are those of `frames`, so a time in the middle of a frame is safe to ask for.
  const indexAt = (time) => {
    let [low, high] = [0, frames.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (frames[middle].time <= time + 0.0005) low = middle;
      else high = middle - 1;
    }
    return low;
  };
  const show = (index) => {
    presented = index;
    if (!video.paused) {
      current = index;
      tell();
    }
    draw();
    document.documentElement.dataset.ready = "yes";
  };
  const go = (index) => {
    video.pause();
    current = Math.min(frames.length - 1, Math.max(0, index));
    const next = current + 1 < frames.length ? frames[current + 1].time : frames[current].time + 1 / data.fps;
    video.currentTime = (frames[current].time + next) / 2;
    tell();
  };
  const follow = () => {
    if (video.requestVideoFrameCallback) {
      video.requestVideoFrameCallback((_now, { mediaTime }) => {
        show(indexAt(mediaTime));
        follow();
      });
    } else {
      if (!video.seeking && indexAt(video.currentTime) !== presented) show(indexAt(video.currentTime));
      requestAnimationFrame(follow);
    }
  };
  const toggle = () => {
    if (!video.paused) return go(indexAt(video.currentTime));
    if (current === frames.length - 1) video.currentTime = 0;
    video.play().catch((error) => fail(`The browser does not play the video: ${error.message}`));
  };
  const playing = () => {
    $("play").textContent = video.paused ? "Play" : "Pause";
    $("play").setAttribute("aria-pressed", String(!video.paused));
  };

  const cutAt = (percent) => {
    cut = Math.min(100, Math.max(0, percent));
    stage.style.setProperty("--cut", `${cut}%`);
    divider.setAttribute("aria-valuenow", String(Math.round(cut)));
    const tag = stage.querySelector(".tag.left");
    const left = tag.dataset.name;
    tag.hidden = cut < 12; // it would lie on the other side's picture
    stage.querySelector(".tag.right").hidden = cut > 88;
    divider.setAttribute("aria-valuetext", `${Math.round(cut)} % ${left}, ${100 - Math.round(cut)} % decoded`);
    draw();
  };
  const point = (event) => {
    const box = stage.getBoundingClientRect();
    const x = ((event.clientX - box.left) / box.width) * width;
    const y = ((event.clientY - box.top) / box.height) * height;
    if (x < 0 || y < 0 || x >= width || y >= height) return;
    pointed = [Math.floor(y / TOKEN), Math.floor(x / TOKEN)];
    tellToken();
  };
  const drag = (event) => {
    const box = stage.getBoundingClientRect();
    cutAt(((event.clientX - box.left) / box.width) * 100);
  };
  const listen = () => {
    stage.addEventListener("pointerdown", (event) => {
      if (event.button !== 0) return;
      event.preventDefault();
      stage.setPointerCapture(event.pointerId);
      divider.focus({ preventScroll: true });
      point(event);
      drag(event);
    });
    stage.addEventListener("pointermove", (event) => {
      point(event);
      if (stage.hasPointerCapture(event.pointerId)) drag(event);
    });
    divider.addEventListener("keydown", (event) => {
      const step = event.shiftKey ? 10 : 1;
      const target = {
        ArrowLeft: cut - step, ArrowDown: cut - step, ArrowRight: cut + step, ArrowUp: cut + step,
        PageDown: cut - 10, PageUp: cut + 10, Home: 0, End: 100,
      }[event.key];
      if (target === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
      event.preventDefault();
      cutAt(target);
    });
    document.addEventListener("keydown", (event) => {
      if (event.altKey || event.ctrlKey || event.metaKey) return;
      if (event.target.closest("button, select, input[type=radio]") && event.key === " ") return;
      const action = { " ": toggle, ",": () => go(current - 1), ".": () => go(current + 1) }[event.key];
      if (!action) return;
      event.preventDefault();
      action();
    });
    $("play").addEventListener("click", toggle);
    $("back").addEventListener("click", () => go(current - 1));
    $("ahead").addEventListener("click", () => go(current + 1));
    $("seek").addEventListener("input", (event) => go(Number(event.target.value)));
    $("speed").addEventListener("change", (event) => { video.playbackRate = Number(event.target.value); });
    $("chart").addEventListener("click", (event) => {
      const box = $("bars").getBoundingClientRect();
      go(Math.floor(((event.clientX - box.left) / box.width) * frames.length));
    });
    for (const input of document.querySelectorAll("[name=layer]")) {
      input.addEventListener("change", () => {
        layer = input.value;
        $("scale").hidden = layer !== "bits" && layer !== "both";
        $("motion-note").hidden = layer !== "motion" && layer !== "both";
        draw();
      });
    }
    for (const name of ["play", "pause", "ended"]) video.addEventListener(name, playing);
    video.addEventListener("seeked", () => { if (video.paused) draw(); }); // to the same frame brings no new picture
    video.addEventListener("error", () => fail("The browser cannot decode the H.264 video of this page; try another."));
  };

  const rounded = (value) => { // the next 1, 2 or 5 times a power of ten
    const power = 10 ** Math.floor(Math.log10(Math.max(1, value)));
    return [1, 2, 5, 10].find((step) => step * power >= value) * power;
  };
  const drawChart = () => {
    const top = rounded(Math.max(...frames.map(({ tokens, motion }) => tokens + motion)));
    const [tokens, motion, first] = [[], [], []];
    frames.forEach((frame, i) => {
      const [low, high] = [1 - frame.tokens / top, 1 - (frame.tokens + frame.motion) / top];
      tokens.push(`M${i + 0.08} 1V${low}H${i + 0.92}V1Z`);
      motion.push(`M${i + 0.08} ${low}V${high}H${i + 0.92}V${low}Z`);
      if (frame.first) first.push(`M${i + 0.5} 1V1.03`);
    });
    $("bars").setAttribute("viewBox", `0 0 ${frames.length} 1`);
    const paths = { grid: `M0 0H${frames.length}M0 0.5H${frames.length}M0 1H${frames.length}`, tokens: tokens.join(""), motion: motion.join(""), first: first.join("") };
    for (const [name, path] of Object.entries(paths)) $("bars").querySelector(`.${name}`).setAttribute("d", path);
    for (const part of [0, 0.5, 1]) {
      const label = document.createElement("span");
      label.textContent = part === 1 ? "0" : `${((1 - part) * top) / 1000} kbit`;
      label.style.top = `${part * 100}%`;
      $("axis").append(label);
    }
  };
  const drawScale = () => {
    const strip = $("scale").querySelector("canvas");
    const pen = strip.getContext("2d");
    for (let x = 0; x < strip.width; x++) {
      pen.fillStyle = `rgb(${colour(x / (strip.width - 1)).map(Math.round).join(" ")})`;
      pen.fillRect(x, 0, 1, 1);
    }
    for (const tick of data.ticks.filter((value) => value <= data.top)) {
      const label = document.createElement("b");
      label.textContent = String(tick);
      label.style.left = `${place(tick) * 100}%`;
      $("scale").querySelector("div").append(label);
    }
  };

  const start = async () => {
    bits = new Uint16Array(await inflated(data.bits));
    vectors = new Int16Array(await inflated(data.vectors));
    [canvas.width, canvas.height] = [scratch.width, scratch.height] = [width, height];
    [heat.width, heat.height] = [columns, rows];
    const ratio = (width * data.aspect) / height;
    stage.style.aspectRatio = String(ratio);
    stage.style.maxWidth = `min(100%, ${Math.max(640, Math.round(width * data.aspect))}px, calc(${ratio} * max(75vh, 240px)))`;
    $("seek").max = String(frames.length - 1);
    video.muted = video.playsInline = true;
    video.preload = "auto";
    video.src = URL.createObjectURL(new Blob([bytes(data.film)], { type: "video/mp4" }));
    listen();
    drawChart();
    drawScale();
    $("player").hidden = $("chart-section").hidden = false;
    video.addEventListener("loadeddata", () => {
      cutAt(50);
      tell();
      go(0);
    }, { once: true });
    follow();
  };
  start().catch((error) => fail(`This page cannot be shown: ${error.message}`));
})();
