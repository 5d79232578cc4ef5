"use strict";
// The page works on the data inside it: it loads nothing and sends nothing.

const root = document.documentElement;
const data = JSON.parse(document.getElementById("data").textContent);
const all = (selector, within = document) => [...within.querySelectorAll(selector)];
root.classList.add("script");

// ---- Theme: the system's, until the reader says otherwise --------------------------------------------------------

const themeButton = document.getElementById("theme");
const systemDark = matchMedia("(prefers-color-scheme: dark)");

function savedTheme() {
  try { return localStorage.getItem("an8flower-theme"); } catch { return null; }
}

function showTheme() {
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : systemDark.matches;
  themeButton.setAttribute("aria-pressed", String(dark));
}

function turnTheme() {
  root.dataset.theme = themeButton.getAttribute("aria-pressed") === "true" ? "light" : "dark";
  try { localStorage.setItem("an8flower-theme", root.dataset.theme); } catch { /* not allowed here: for this visit only */ }
  showTheme();
}

if (["light", "dark"].includes(savedTheme())) root.dataset.theme = savedTheme();
themeButton.addEventListener("click", turnTheme);
systemDark.addEventListener("change", showTheme);
showTheme();

// ---- Choices: of all blocks of a group, the chosen one is shown ---------------------------------------------------

function choose(select) {
  for (const block of all("[data-group]")) {
    if (block.dataset.group === select.dataset.chooser) block.hidden = block.dataset.value !== select.value;
  }
  drawGallery();
}

// ---- Leaderboard --------------------------------------------------------------------------------------------------

function cellOf(row, column) {
  return column < 0 ? row.cells[0].textContent.trim() : row.cells[column + 1].dataset.sort;
}

// Numbers by size, text by the alphabet; what has no value comes last either way.
function compare(a, b, down) {
  if (a === "" || b === "") return (a === "") - (b === "");
  const numeric = !Number.isNaN(Number(a)) && !Number.isNaN(Number(b));
  const order = numeric ? Number(a) - Number(b) : a.localeCompare(b);
  return down ? -order : order;
}

function sortBoard(table, column, direction) {
  const body = table.tBodies[0];
  const rows = [...body.rows].sort((a, b) => compare(cellOf(a, column), cellOf(b, column), direction === "descending"));
  body.append(...rows);
  for (const button of all("button[data-sort]", table.tHead)) {
    const head = button.closest("th");
    if (Number(button.dataset.sort) === column) head.setAttribute("aria-sort", direction);
    else head.removeAttribute("aria-sort");
  }
}

const UPWARDS = ["method", "tied", "rank", "95 % of ranks", "undefined", "no map", "ms", "forwards", "backwards"];

function onSort(button) {
  const before = button.closest("th").getAttribute("aria-sort");
  const first = UPWARDS.includes(button.textContent) ? "ascending" : "descending";
  const other = first === "ascending" ? "descending" : "ascending";
  sortBoard(button.closest("table"), Number(button.dataset.sort), before === first ? other : first);
}

function fillRow(row, content) {
  content.cells.forEach(([text, sort], column) => {
    const cell = row.cells[column + 1];
    cell.querySelector(".text").textContent = text;
    cell.dataset.sort = sort === null ? "" : sort;
  });
  const bar = row.querySelector(".bar");
  bar.hidden = !content.bar;
  if (!content.bar) return;
  const [start, width, mean] = content.bar;
  Object.assign(bar.querySelector(".reach").style, { left: `${start}%`, width: `${width}%` });
  bar.querySelector(".dot").style.left = `${mean}%`;
}

const metricSelect = document.getElementById("metric");

// One metric for the whole page; a board that does not have it stays as it is.
function showMetric(metric) {
  for (const [key, boards] of Object.entries(data.boards)) if (boards[metric]) fillBoard(key, boards[metric], metric);
  for (const head of all("[data-column]")) head.classList.toggle("chosen", head.dataset.column === metric);
}

function fillBoard(key, board, metric) {
  const table = document.getElementById(`board-${key}`);
  for (const row of table.tBodies[0].rows) fillRow(row, board.rows[row.dataset.method]);
  table.querySelector(".metric-name").textContent = metric;
  table.querySelector(".metric-lower").hidden = !board.lower;
  const sorted = table.querySelector("th[aria-sort]");
  sortBoard(table, Number(sorted.querySelector("button").dataset.sort), sorted.getAttribute("aria-sort"));
}

// ---- Plots: lines are shown or hidden, and a line is lit while the pointer is on its name -------------------------

function onLine(box) {
  const plot = box.closest(".plot");
  for (const line of all(`.drawing [data-series="${box.dataset.line}"]`, plot)) line.classList.toggle("off", !box.checked);
}

function light(plot, number) {
  plot.classList.toggle("focused", number !== null);
  for (const line of all(".drawing [data-series]", plot)) line.classList.toggle("lit", line.dataset.series === number);
}

for (const label of all(".legend label")) {
  const number = label.querySelector("input").dataset.line;
  label.addEventListener("pointerenter", () => light(label.closest(".plot"), number));
  label.addEventListener("pointerleave", () => light(label.closest(".plot"), null));
  label.addEventListener("focusin", () => light(label.closest(".plot"), number));
  label.addEventListener("focusout", () => light(label.closest(".plot"), null));
}

// ---- Downloads ----------------------------------------------------------------------------------------------------

// Text that a spreadsheet would take for a formula gets an apostrophe; quotes are doubled.
function csvField(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number") return String(value);
  const safe = /^[=+\-@\t\r]/.test(value) && Number.isNaN(Number(value)) ? `'${value}` : value;
  return /[",\n\r]/.test(safe) || safe !== safe.trim() ? `"${safe.replaceAll('"', '""')}"` : safe;
}

function csv({ columns, rows }) {
  return [columns, ...rows].map((row) => row.map(csvField).join(",")).join("\r\n") + "\r\n";
}

function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name.replace(/[^\w.-]+/g, "-");
  document.body.append(link);
  link.click();
  link.remove();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

async function downloadSummary() {
  const bytes = Uint8Array.from(atob(data.summary), (letter) => letter.charCodeAt(0));
  const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  download(new Blob([await new Response(unpacked).arrayBuffer()], { type: "application/json" }), `${data.name}.json`);
}

// ---- Gallery ------------------------------------------------------------------------------------------------------

const slider = document.getElementById("threshold");
const decoded = new Map();

// The pixels of a picture (size x size x 4), decoded once.
function pixels(url) {
  if (!decoded.has(url)) decoded.set(url, decode(url));
  return decoded.get(url);
}

async function decode(url) {
  const image = new Image();
  image.src = url;
  await image.decode();
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  return context.getImageData(0, 0, canvas.width, canvas.height);
}

// Levels count how many of the thresholds 0, 0.01, ..., 0.99 a pixel is above: it is in the mask where level > threshold.
function overlap(levels, truth, threshold) {
  let both = 0, either = 0, evidence = 0;
  for (let i = 0; i < levels.length; i += 4) {
    const inMask = levels[i] > threshold, inTruth = truth[i] > 0;
    both += inMask && inTruth;
    either += inMask || inTruth;
    evidence += inTruth;
  }
  return evidence ? both / either : null;
}

// How much of the map covers a pixel that is outside and inside the mask; of the dark, where the mask is shown.
const SHARES = { overlay: [0.25, 0.7], map: [1, 1], mask: [0.8, 0] };

// What a pixel of the picture becomes: under the map, as the map alone, or dark outside the mask.
function mix(image, levels, threshold, layer) {
  const result = new ImageData(image.width, image.height);
  for (let i = 0; i < levels.length; i += 4) {
    const share = SHARES[layer][levels[i] > threshold ? 1 : 0];
    const grey = 0.3 * image.data[i] + 0.59 * image.data[i + 1] + 0.11 * image.data[i + 2];
    for (let c = 0; c < 3; c++) {
      const below = layer === "overlay" ? grey : image.data[i + c];
      const above = layer === "mask" ? 24 : data.palette[3 * levels[i] + c];
      result.data[i + c] = share * above + (1 - share) * below;
    }
    result.data[i + 3] = 255;
  }
  return result;
}

const outlines = new Map();

// The border of the truth, drawn once for each picture and scale.
function outline(key, truth, scale) {
  if (!outlines.has(key)) outlines.set(key, trace(truth.data, truth.width, scale));
  return outlines.get(key);
}

function trace(values, size, scale) {
  const path = new Path2D();
  const at = (x, y) => x >= 0 && y >= 0 && x < size && y < size && values[4 * (y * size + x)] > 0;
  const line = (x, y, right, down) => {
    path.moveTo(x * scale, y * scale);
    path.lineTo((x + right) * scale, (y + down) * scale);
  };
  for (let y = 0; y < size; y++) {
    for (let x = 0; x < size; x++) {
      if (!at(x, y)) continue;
      if (!at(x - 1, y)) line(x, y, 0, 1);
      if (!at(x + 1, y)) line(x + 1, y, 0, 1);
      if (!at(x, y - 1)) line(x, y, 1, 0);
      if (!at(x, y + 1)) line(x, y + 1, 1, 0);
    }
  }
  return path;
}

function stroke(context, path, colour, width) {
  context.strokeStyle = colour;
  context.lineWidth = width;
  context.stroke(path);
}

function paint(canvas, image, mask, truth, levels, threshold, layer) {
  const size = image.width, scale = Math.max(1, Math.round(224 / size));
  if (canvas.width !== size * scale) canvas.width = canvas.height = size * scale;
  const small = document.createElement("canvas");
  small.width = small.height = size;
  small.getContext("2d").putImageData(levels ? mix(image, levels.data, threshold, layer) : image, 0, 0);
  const context = canvas.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.drawImage(small, 0, 0, size * scale, size * scale);
  const border = outline(mask, truth, scale);
  stroke(context, border, "rgba(0, 20, 26, 0.85)", 4);
  stroke(context, border, "#22e3ff", 2);
}

function showOverlap(canvas, truth, levels, threshold) {
  const value = overlap(levels.data, truth.data, threshold);
  const shown = value === null ? "undefined: no evidence is visible" : value.toFixed(2);
  const where = `${canvas.dataset.method}, row ${canvas.dataset.row}, ${canvas.dataset.class}`;
  canvas.parentElement.querySelector(".overlap").textContent = `IoU ${shown}`;
  canvas.setAttribute("aria-label", `Map of ${where}: IoU ${shown} at threshold ${(threshold / 100).toFixed(2)}`);
  canvas.dataset.iou = value === null ? "" : value;
}

async function drawCanvas(canvas, threshold, layer) {
  const gallery = data.galleries[canvas.dataset.gallery];
  const picture = gallery.pictures[canvas.dataset.row];
  const [image, truth] = await Promise.all([pixels(picture.image), pixels(picture.mask)]);
  const map = canvas.dataset.method === undefined ? null : gallery.maps[`${canvas.dataset.method}\n${canvas.dataset.row}`];
  const levels = map && await pixels(map);
  if (levels) showOverlap(canvas, truth, levels, threshold);
  paint(canvas, image, picture.mask, truth, levels, threshold, layer);
}

// Whether the model and the method of a canvas are chosen; true for every data set, since paper shows all of them.
function isChosen(canvas) {
  return canvas.closest("[data-group][hidden]:not([data-group=study])") === null;
}

let drawings = 0;
const rest = () => new Promise((resolve) => { setTimeout(resolve, 0); });

// Draws every chosen canvas, visible ones first, with pauses for the reader; a newer call stops an older one.
async function drawGallery() {
  if (!slider || document.readyState !== "complete") return;
  const mine = ++drawings, threshold = Number(slider.value);
  const layer = document.querySelector("input[name=layer]:checked").value;
  document.getElementById("threshold-shown").textContent = (threshold / 100).toFixed(2);
  const canvases = all("canvas[data-gallery]").filter(isChosen);
  const seen = canvases.filter((canvas) => canvas.offsetParent !== null);
  let since = performance.now();
  for (const canvas of new Set([...seen, ...canvases])) {
    if (performance.now() - since > 15) {
      await rest();
      since = performance.now();
    }
    if (mine !== drawings) return;
    await drawCanvas(canvas, threshold, layer);
  }
  root.dataset.drawn = `${threshold} ${layer}`;
}

// ---- Wiring: one listener for each kind of event ------------------------------------------------------------------

// A link to a number shows the metric that the number is of.
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-show]");
  if (!link || !metricSelect) return;
  metricSelect.value = link.dataset.show;
  showMetric(metricSelect.value);
});

document.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.dataset.sort !== undefined) onSort(button);
  if (button.dataset.csv) {
    const table = csv(data.tables[button.dataset.csv]);
    download(new Blob(["\ufeff", table], { type: "text/csv" }), `${data.name}-${button.dataset.csv}.csv`);
  }
  if (button.id === "summary-download") downloadSummary();
});

document.addEventListener("change", (event) => {
  const { dataset, id, name, value } = event.target;
  if (dataset.chooser) choose(event.target);
  if (id === "metric") showMetric(value);
  if (dataset.line !== undefined) onLine(event.target);
  if (name === "layer") drawGallery();
});

slider?.addEventListener("input", () => requestAnimationFrame(drawGallery));
document.querySelector(".gallery-controls")?.addEventListener("submit", (event) => event.preventDefault());

// A browser may restore choices after a reload: the page follows what the controls say.
for (const select of all("select[data-chooser]")) choose(select);
if (metricSelect) showMetric(metricSelect.value);
for (const box of all("input[data-line]")) onLine(box);

// On paper nothing can be opened.
addEventListener("beforeprint", () => {
  for (const details of all("details:not([open])")) {
    details.open = true;
    details.dataset.opened = "";
  }
});
addEventListener("afterprint", () => {
  for (const details of all("details[data-opened]")) details.open = false;
});
addEventListener("load", drawGallery);
