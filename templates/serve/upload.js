"use strict";
(() => {
  const drop = document.getElementById("drop");
  const list = document.getElementById("uploads");
  const pick = document.getElementById("pick");
  drop.hidden = false;

  const queue = [];
  let running = 0;

  function size(bytes) {
    const units = ["B", "KiB", "MiB", "GiB"];
    let at = 0;
    while (bytes >= 1024 && at < 3) { bytes /= 1024; at += 1; }
    return `${at ? bytes.toPrecision(3) : bytes} ${units[at]}`;
  }

  function add(file) {
    const line = document.createElement("li");
    const name = document.createElement("span");
    const bar = document.createElement("progress");
    const said = document.createElement("span");
    name.textContent = file.name;
    bar.max = 1;
    bar.value = 0;
    said.textContent = size(file.size);
    line.append(name, bar, said);
    list.append(line);
    queue.push({ file, bar, said });
    next();
  }

  function next() {
    while (running < 2 && queue.length) {
      running += 1;
      send(queue.shift());
    }
  }

  function send({ file, bar, said }) {
    const request = new XMLHttpRequest();
    const began = performance.now();
    const end = (text, kind) => {
      bar.remove();
      said.textContent = text;
      said.className = kind;
      running -= 1;
      next();
    };
    request.upload.onprogress = (event) => {
      bar.value = event.total ? event.loaded / event.total : 1;
      const rate = event.loaded / Math.max((performance.now() - began) / 1000, 0.001);
      said.textContent = `${size(event.loaded)} of ${size(file.size)}, ${size(rate)}/s`;
    };
    request.onload = () => {
      const text = request.responseText.trim();
      if (request.status === 201) end(text === file.name ? "done" : `done, as ${text}`, "done");
      else end(text || `refused (${request.status})`, "failed");
    };
    request.onerror = () => end("refused, or the connection broke", "failed");
    request.open("PUT", `./upload/${encodeURIComponent(file.name)}`);
    request.send(file);
  }

  pick.addEventListener("change", () => { [...pick.files].forEach(add); pick.value = ""; });
  for (const kind of ["dragover", "dragenter"]) {
    document.addEventListener(kind, (event) => { event.preventDefault(); drop.classList.add("over"); });
  }
  document.addEventListener("dragleave", (event) => { if (!event.relatedTarget) drop.classList.remove("over"); });
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    drop.classList.remove("over");
    [...event.dataTransfer.files].forEach(add);
  });
})();
