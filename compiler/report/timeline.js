// The step's time axis, which the memory chart and the arena's map share, and the memory chart.
const kPhases = ['forward', 'backward', 'update'];
const samples = {
  begin: sums(data.samples.begin),
  bytes: data.samples.bytes.map((list) => sums(list).map((v) => v * 64)),
  length: data.samples.begin.length,
};
samples.total = Float64Array.from({length: samples.length}, (_, i) => {
  let sum = 0;
  for (let g = 0; g < data.groups.length; ++g) sum += data.persistent[g] + (samples.bytes[g][i] || 0);
  return sum;
});
const kept = data.persistent.reduce((a, b) => a + b, 0);
const reserved = kept + data.arena;

// The sample in which an instruction lies.
function sampleAt(instruction) {
  let low = 0, high = samples.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (samples.begin[middle] <= instruction) low = middle; else high = middle - 1;
  }
  return low;
}
const shownAt = (k) => samples.begin[k] + data.samples.at[k];
const endOf = (k) => (k + 1 < samples.length ? samples.begin[k + 1] : data.instructions);

// [phase, from, to) of stretches of one phase.
const stretches = [];
for (let k = 0; k < samples.length; ++k) {
  const last = stretches[stretches.length - 1], phase = data.samples.phase[k];
  if (last && last[0] === phase) last[2] = endOf(k); else stretches.push([phase, samples.begin[k], endOf(k)]);
}

// The three parts of the step, [phase, from, to): forward work after the turn (what runs again, or in tiles) and updates
// before the end belong to the part in which they lie. The turn is where the fewest samples are on the wrong side.
function turn(isLater) {
  let score = 0, best = 0, at = 0;
  for (let k = 0; k < samples.length; ++k) {
    score += isLater(data.samples.phase[k]) ? -1 : 1;
    if (score > best) best = score, at = k + 1;
  }
  return at < samples.length ? samples.begin[at] : data.instructions;
}
const parts = (() => {
  const end = turn((phase) => phase === 2), middle = Math.min(turn((phase) => phase !== 0), end);
  return [[0, 0, middle], [1, middle, end], [2, end, data.instructions]].filter(([, from, to]) => to > from);
})();

const view = {from: 0, to: data.instructions, cursor: -1, name: 'Whole step', charts: []};
function show(from, to, name) {
  const least = Math.min(8, data.instructions);
  let width = clamp(to - from, least, data.instructions);
  view.from = clamp(Math.round(from), 0, data.instructions - Math.round(width));
  view.to = view.from + Math.round(width);
  view.name = view.to - view.from === data.instructions ? 'Whole step' : name || '';
  for (const chart of view.charts) {
    if (name) chart.wholeHeight();
    chart.redraw();
    chart.markTools();
  }
}
function moveTo(instruction) {
  view.cursor = instruction;
  for (const chart of view.charts) chart.moveCursor(), chart.tell();
}

class Timeline extends Plot {
  constructor(id) {
    super(id);
    view.charts.push(this);
    this.addTools();
    this.drag = null;
    this.box.addEventListener('pointerdown', (event) => {
      if (event.pointerType !== 'mouse' || event.button !== 0) return;
      const box = this.box.getBoundingClientRect(), [x, y] = [event.clientX - box.left, event.clientY - box.top];
      this.drag = {from: x, to: x, fromY: y, toY: y};
      this.box.setPointerCapture(event.pointerId);
    });
    this.box.addEventListener('pointerup', () => {
      const drag = this.drag;
      this.drag = null;
      if (drag && Math.abs(drag.to - drag.from) > 6) {
        const [a, b] = [this.instruction(drag.from), this.instruction(drag.to)].sort((p, q) => p - q);
        this.zoomHeight(drag);
        show(a, b + 1);
      }
      this.moveCursor();
    });
    this.box.addEventListener('pointercancel', () => { this.drag = null; });
    this.box.addEventListener('pointerleave', () => this.leave());
    this.box.addEventListener('dblclick', () => show(0, data.instructions, 'Whole step'));
  }

  // Of the vertical axis: nothing to do for bytes alive.
  zoomHeight(drag) {}
  wholeHeight() {}
  dragged() { return [this.top, this.bottom]; }

  addTools() {
    const box = this.figure.querySelector('.tools');
    const choices = [['Whole step', 0, data.instructions]];
    if (parts.length > 1) for (const [phase, from, to] of parts) choices.push([['Forward', 'Backward', 'Update'][phase], from, to]);
    if (data.peak >= 0 && data.instructions > 40) {
      const reach = Math.max(12, Math.round(data.instructions / 60));
      choices.push(['Peak', data.peak - reach, data.peak + reach]);
    }
    this.buttons = [];
    if (choices.length > 1) {
      for (const [name, from, to] of choices) {
        const button = box.appendChild(el('button', '', name));
        button.type = 'button';
        button.addEventListener('click', () => show(from, to, name));
        this.buttons.push(button);
      }
      box.appendChild(el('span', '', 'drag to zoom'));
    } else {
      box.remove();
    }
    this.markTools();
  }
  markTools() {
    for (const button of this.buttons) button.setAttribute('aria-pressed', String(button.textContent === view.name));
  }

  layout(top) {
    this.left = this.narrow ? 58 : 72;
    this.right = this.width - (this.narrow ? 12 : 18);
    this.top = top;
    this.bottom = this.height - 40;
  }
  x(instruction) { return this.left + ((instruction - view.from) / (view.to - view.from)) * (this.right - this.left); }
  instruction(x) {
    const share = (x - this.left) / (this.right - this.left);
    return clamp(Math.floor(view.from + share * (view.to - view.from)), view.from, view.to - 1);
  }

  // Grid lines and texts of both axes, the strip of phases under the plot.
  axes(c, low, high, yOf) {
    c.textBaseline = 'middle';
    c.textAlign = 'right';
    for (const [value, text] of byteTicks(low, high, this.narrow ? 4 : 6)) {
      const y = crisp(yOf(value));
      line(c, this.left, y, this.right, y, colors.rule);
      c.fillStyle = colors.muted;
      c.fillText(text, this.left - 8, y);
    }
    const strip = this.bottom + 5;
    for (const [phase, from, to] of stretches) {
      if (to <= view.from || from >= view.to) continue;
      const [a, b] = [Math.max(this.left, this.x(from)), Math.min(this.right, this.x(to))];
      c.fillStyle = colors['p' + phase] || colors.faint;
      c.fillRect(a, strip, Math.max(b - a, this.pixel), 5);
    }
    c.textAlign = 'center';
    c.fillStyle = colors.muted;
    for (const value of ticks(view.from, view.to - 1, this.narrow ? 4 : 9)) {
      if (value !== Math.round(value)) continue;
      const text = count(value), half = c.measureText(text).width / 2;
      c.fillText(text, clamp(this.x(value + 0.5), this.left + half - 8, this.right - half + 8), strip + 17);
    }
  }
  // The step's parts behind the plot, with their names at the top.
  bands(c, nameY) {
    for (const [phase, from, to] of parts) {
      const [a, b] = [Math.max(this.left, this.x(from)), Math.min(this.right, this.x(to))];
      if (b <= a) continue;
      if (phase === 1) {
        c.fillStyle = colors.band;
        c.fillRect(a, this.top, b - a, this.bottom - this.top);
      }
      const name = kPhases[phase];
      c.font = '12px ' + colors.text;
      if (c.measureText(name).width + 8 > b - a) continue;
      c.textAlign = 'left';
      c.textBaseline = 'middle';
      c.fillStyle = colors.muted;
      c.fillText(name, a + 4, nameY);
    }
  }
  cursorLine(c) {
    if (this.drag && Math.abs(this.drag.to - this.drag.from) > 3) {
      const [a, b] = [this.drag.from, this.drag.to].map((x) => clamp(x, this.left, this.right)).sort((p, q) => p - q);
      c.globalAlpha = 0.15;
      c.fillStyle = colors.accent;
      const [top, bottom] = this.dragged();
      c.fillRect(a, top, b - a, bottom - top);
      c.globalAlpha = 1;
    }
    if (view.cursor < view.from || view.cursor >= view.to) return;
    const x = crisp(this.x(view.cursor + 0.5));
    line(c, x, this.top, x, this.bottom + 10, colors.ink);
  }
  point(x, y) {
    if (this.drag) this.drag.to = x, this.drag.toY = y;
    moveTo(this.instruction(x));
  }
  leave() {
    if (!this.drag) moveTo(-1);
  }
  key(event) {
    const at = view.cursor >= 0 ? view.cursor : Math.max(0, data.peak);
    const far = Math.max(1, Math.round((view.to - view.from) / 50));
    const moves = {ArrowLeft: -1, ArrowRight: 1, PageUp: -far, PageDown: far};
    if (event.key === 'Home') moveTo(view.from);
    else if (event.key === 'End') moveTo(view.to - 1);
    else if (event.key === 'Escape') show(0, data.instructions, 'Whole step');
    else if (event.key in moves) moveTo(clamp(at + moves[event.key] * (event.shiftKey ? far : 1), 0, data.instructions - 1));
    else return false;
    if (view.cursor < view.from || view.cursor >= view.to) {
      const half = (view.to - view.from) / 2;
      show(view.cursor - half, view.cursor + half);
    }
    return true;
  }
}

class MemoryChart extends Timeline {
  constructor() {
    super('memory');
    const list = el('dl');
    this.what = this.readout.appendChild(el('div', 'what'));
    this.values = {};
    const row = (key, name, group) => {
      const div = list.appendChild(el('div', group < 0 ? 'sum' : ''));
      if (group >= 0) div.appendChild(el('i', 'swatch g' + group));
      div.appendChild(el('dt', '', name));
      this.values[key] = div.appendChild(el('dd'));
    };
    row('sum', 'alive in all', -1);
    this.groups = data.groups.map((name, g) => g).filter((g) => data.persistent[g] > 0 || samples.bytes[g].length);
    for (const g of this.groups) row(g, data.groups[g], g);
    this.readout.appendChild(list);
    this.tell();
  }

  // A budget far above the peak would flatten the picture: it is then told, not drawn.
  get top_value() {
    const near = data.budget > 0 && data.budget < 1.7 * reserved;
    return Math.max(reserved, near ? data.budget : 0) * 1.11;
  }
  y(bytes) { return this.bottom - (bytes / this.high) * (this.bottom - this.top); }

  draw(c) {
    this.layout(30);
    this.high = this.top_value || 1;
    this.bands(c, 17);
    this.axes(c, 0, this.high, (v) => this.y(v));
    this.areas(c);
    this.lines(c);
  }

  // One column a device pixel: the sample with the most alive among those in it.
  areas(c) {
    const columns = Math.round((this.right - this.left) / this.pixel);
    const span = (view.to - view.from) / columns;
    for (let i = 0; i < columns; ++i) {
      const first = sampleAt(view.from + i * span), last = Math.max(first, sampleAt(view.from + (i + 1) * span - 1e-6));
      let k = first;
      for (let s = first + 1; s <= last; ++s) if (samples.total[s] > samples.total[k]) k = s;
      const x = this.left + i * this.pixel;
      let sum = 0;
      for (const g of this.groups) {
        const bytes = data.persistent[g] + (samples.bytes[g][k] || 0);
        if (bytes <= 0) continue;
        const y0 = this.y(sum), y1 = this.y(sum += bytes);
        c.fillStyle = colors['g' + g];
        c.fillRect(x, y1, this.pixel, y0 - y1);
      }
    }
  }

  lines(c) {
    const box = {left: this.left + 4, right: this.right - 4};
    const y = crisp(this.y(reserved));
    line(c, this.left, y, this.right, y, colors.ink, [2, 3]);
    const budget = data.budget > 0 ? this.y(data.budget) : -1;
    const drawn = budget >= this.top - 1;
    if (drawn) line(c, this.left, crisp(budget), this.right, crisp(budget), colors.alarm, [], 1.5);
    const x = data.peak >= 0 ? this.x(data.peak + 0.5) : -1, inside = x >= this.left && x <= this.right;
    const peak = samples.total.length ? samples.total[sampleAt(Math.max(0, data.peak))] : kept;
    // The lines' texts keep to the side where the peak is not.
    const side = inside && x > (this.left + this.right) / 2 ? {x: box.left, align: 'left'} : {x: box.right, align: 'right'};
    const below = Math.abs(y - budget) < 34 && budget < y ? 11 : -11;
    if (drawn) label(c, 'budget ' + bytesText(data.budget), side.x, Math.max(budget - 11, this.top + 9), {align: side.align, color: colors.alarm, ...box});
    else if (data.budget > 0) label(c, 'budget ' + bytesText(data.budget) + ', above this chart', side.x, this.top + 9, {align: side.align, color: colors.alarm, ...box});
    const crowded = inside && this.narrow && Math.abs(this.y(peak) - y) < 30;
    if (!crowded && (reserved > peak * 1.001 || !inside)) label(c, 'planned peak ' + bytesText(reserved), side.x, y + below, {align: side.align, color: colors.muted, ...box});
    if (!inside) return;
    c.beginPath();
    c.arc(x, this.y(peak), 5, 0, 2 * Math.PI);
    c.fillStyle = colors.ink;
    c.fill();
    c.lineWidth = 2;
    c.strokeStyle = colors.raised;
    c.stroke();
    const right = x < (this.left + this.right) / 2;
    label(c, (reserved > peak * 1.001 ? 'most alive ' : 'peak ') + bytesText(peak), right ? x + 12 : x - 12, this.y(peak) + 16, {align: right ? 'left' : 'right', weight: '600', ...box});
  }

  drawCursor(c) {
    this.cursorLine(c);
    if (view.cursor < view.from || view.cursor >= view.to) return;
    const y = this.y(samples.total[sampleAt(view.cursor)]);
    c.beginPath();
    c.arc(crisp(this.x(view.cursor + 0.5)), y, 3.5, 0, 2 * Math.PI);
    c.fillStyle = colors.ink;
    c.fill();
  }

  tell() {
    if (!this.what) return;
    const at_peak = view.cursor < 0;
    const k = sampleAt(at_peak ? Math.max(0, data.peak) : view.cursor);
    const source = data.strings[data.samples.source[k]];
    this.what.textContent = '';
    this.what.append((at_peak ? 'At the peak: instruction ' : 'Instruction ') + count(shownAt(k)) + ', ' + (kPhases[data.samples.phase[k]] || '') + ' · ');
    this.what.append(el('code', '', data.strings[data.samples.op[k]]));
    if (source) this.what.append(' · ', el('code', 'where', source));
    this.values.sum.textContent = bytesText(samples.total[k]);
    for (const g of this.groups) this.values[g].textContent = bytesText(data.persistent[g] + (samples.bytes[g][k] || 0));
  }
}
