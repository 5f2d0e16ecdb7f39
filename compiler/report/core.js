'use strict';
// Data, theme, and a canvas that knows its size; the charts are in the files after this one. All text of the model's
// reaches the page by textContent or fillText.
const data = JSON.parse(document.getElementById('data').textContent);

function el(tag, className, text) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  if (text !== undefined) node.textContent = text;
  return node;
}

function sums(differences) {
  let sum = 0;
  return Float64Array.from(differences, (d) => (sum += d));
}

const kUnits = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
function bytesText(bytes) {
  let unit = 0, value = bytes;
  while (value >= 1024 && unit + 1 < kUnits.length) value /= 1024, ++unit;
  return unit === 0 ? bytes + '\u00a0B' : value.toFixed(2) + '\u00a0' + kUnits[unit];
}
function secondsText(s) {
  if (!(s > 0)) return '0\u00a0s';
  if (s >= 99.95) return count(Math.round(s)) + '\u00a0s';
  const [scale, unit] = s >= 1 ? [1, 's'] : s >= 1e-3 ? [1e3, 'ms'] : s >= 1e-6 ? [1e6, 'µs'] : [1e9, 'ns'];
  return (s * scale).toFixed(s * scale >= 9.995 ? 1 : 2) + '\u00a0' + unit;
}
const count = (n) => n.toLocaleString('en-US');
const clamp = (x, low, high) => Math.max(low, Math.min(high, x));

// Round values within [low, high], about `wanted` of them, a 1, 2 or 5 times a power of ten apart.
function ticks(low, high, wanted) {
  const raw = (high - low) / Math.max(1, wanted);
  if (!(raw > 0)) return [low];
  const power = Math.pow(10, Math.floor(Math.log10(raw)));
  const step = power * ([1, 2, 5, 10].find((f) => f * power >= raw * 0.999) || 10);
  const out = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high * (1 + 1e-12) + 1e-300; ++i) out.push(i * step || 0);
  return out;
}
// Ticks and their texts in the unit in which `high` is at least 2.
function byteTicks(low, high, wanted) {
  let unit = 0, scale = 1;
  while (high / scale >= 2048 && unit + 1 < kUnits.length) scale *= 1024, ++unit;
  return ticks(low / scale, high / scale, wanted).map((v) => [v * scale, count(+v.toPrecision(10)) + '\u00a0' + kUnits[unit]]);
}
function secondTicks(low, high, wanted) {
  const [scale, unit] = high >= 1 ? [1, 's'] : high >= 1e-3 ? [1e3, 'ms'] : high >= 1e-6 ? [1e6, 'µs'] : [1e9, 'ns'];
  return ticks(low * scale, high * scale, wanted).map((v) => [v / scale, count(+v.toPrecision(10)) + '\u00a0' + unit]);
}

let colors = {};
function readColors() {
  const style = getComputedStyle(document.documentElement);
  const names = ['bg', 'raised', 'ink', 'muted', 'faint', 'rule', 'band', 'accent', 'alarm', 'text', 'mono'];
  for (let g = 0; g < data.groups.length; ++g) names.push('g' + g, 'on-g' + g);
  for (let p = 0; p < 3; ++p) names.push('p' + p);
  colors = Object.fromEntries(names.map((n) => [n, style.getPropertyValue('--' + n).trim()]));
}

// Two canvases in a .plot: the picture, and what follows the pointer on top. A subclass has draw(c) and drawCursor(c),
// in CSS pixels within this.width x this.height; point(x, y, event) and key(event) for input.
class Plot {
  constructor(id) {
    this.figure = document.getElementById(id);
    this.box = this.figure.querySelector('.plot');
    this.readout = this.figure.querySelector('.readout');
    this.box.tabIndex = 0;
    this.box.setAttribute('role', 'application');
    this.box.setAttribute('aria-label', this.box.dataset.label);
    this.layers = [0, 1].map(() => this.box.appendChild(el('canvas')));
    for (const canvas of this.layers) canvas.setAttribute('aria-hidden', 'true');
    this.pending = 0;
    new ResizeObserver(() => this.redraw()).observe(this.box);
    const at = (event) => {
      const box = this.box.getBoundingClientRect();
      return [event.clientX - box.left, event.clientY - box.top];
    };
    this.box.addEventListener('pointermove', (event) => this.point(...at(event), event));
    this.box.addEventListener('pointerdown', (event) => this.point(...at(event), event));
    this.box.addEventListener('keydown', (event) => {
      if (this.key(event)) event.preventDefault();
    });
    Plot.all.push(this);
  }
  get narrow() { return this.width < 560; }
  begin(layer) {
    return this.prepare(this.layers[layer], this.box.clientWidth, this.box.clientHeight, window.devicePixelRatio || 1);
  }
  prepare(canvas, width, height, scale) {
    this.width = width;
    this.height = height;
    const [w, h] = [Math.round(this.width * scale), Math.round(this.height * scale)];
    if (canvas.width !== w || canvas.height !== h) canvas.width = w, canvas.height = h;
    const c = canvas.getContext('2d');
    c.setTransform(scale, 0, 0, scale, 0, 0);
    c.clearRect(0, 0, this.width, this.height);
    c.font = '12px ' + colors.text;
    this.pixel = 1 / scale;
    return c;
  }
  redraw() {
    cancelAnimationFrame(this.pending);
    this.pending = requestAnimationFrame(() => this.redrawNow());
  }
  redrawNow() {
    if (this.box.clientWidth === 0) return;
    this.draw(this.begin(0));
    this.drawCursor(this.begin(1));
  }
  // The picture as printed: an image in the colours of paper, for a canvas drawn when printing starts stays blank.
  drawPaper() {
    const canvas = el('canvas'), image = el('img', 'paper');
    this.draw(this.prepare(canvas, 720, this.box.clientHeight, 2));
    image.alt = this.box.dataset.label;
    image.src = canvas.toDataURL();
    this.box.after(image);
  }
  moveCursor() {
    if (this.width) this.drawCursor(this.begin(1));
  }
}
Plot.all = [];

// Text on a plate of the background's colour, kept within [left, right].
function label(c, text, x, y, {align = 'left', color = colors.ink, left = 0, right = Infinity, weight = ''} = {}) {
  c.font = weight + ' 12px ' + colors.text;
  const width = c.measureText(text).width;
  let start = align === 'right' ? x - width : align === 'center' ? x - width / 2 : x;
  start = clamp(start, left, Math.max(left, right - width));
  c.textAlign = 'left';
  c.textBaseline = 'middle';
  c.globalAlpha = 0.85;
  c.fillStyle = colors.raised;
  c.fillRect(start - 3, y - 8, width + 6, 16);
  c.globalAlpha = 1;
  c.fillStyle = color;
  c.fillText(text, start, y);
  return [start - 3, y - 8, width + 6, 16];
}
function line(c, x0, y0, x1, y1, color, dash = [], width = 1) {
  c.beginPath();
  c.setLineDash(dash);
  c.strokeStyle = color;
  c.lineWidth = width;
  c.moveTo(x0, y0);
  c.lineTo(x1, y1);
  c.stroke();
  c.setLineDash([]);
}
const crisp = (x) => Math.round(x) + 0.5;
