// The arena as a map: offset over time.
class ArenaMap extends Timeline {
  constructor() {
    super('arena');
    const m = data.map;
    this.first = sums(m.first);
    this.offset = Float64Array.from(m.offset, (v) => v * 64);
    this.count = m.group.length;
    // Large ones first, so that a small one is never hidden.
    this.order = Uint32Array.from({length: this.count}, (_, i) => i).sort((a, b) => m.bytes[b] * m.length[b] - m.bytes[a] * m.length[a]);
    this.hovered = -1;
    this.wholeHeight();
    this.what = this.readout.appendChild(el('div', 'what'));
    this.tell();
  }
  wholeHeight() { this.low = 0, this.high = data.arena; }
  // A rectangle dragged open shows its part of the arena too; a flat one shows its stretch of time alone.
  zoomHeight(drag) {
    if (Math.abs(drag.toY - drag.fromY) < 16) return;
    const offset = (y) => this.high - ((clamp(y, this.top, this.bottom) - this.top) / (this.bottom - this.top)) * (this.high - this.low);
    const [low, high] = [offset(drag.fromY), offset(drag.toY)].sort((a, b) => a - b);
    if (high - low >= 256) this.low = low, this.high = high;
  }
  dragged() {
    const [a, b] = [this.drag.fromY, this.drag.toY].map((y) => clamp(y, this.top, this.bottom)).sort((p, q) => p - q);
    return b - a < 16 ? super.dragged() : [a, b];
  }
  y(offset) { return this.bottom - ((offset - this.low) / (this.high - this.low)) * (this.bottom - this.top); }
  rectangle(i) {
    const x0 = Math.max(this.left, this.x(this.first[i])), x1 = Math.min(this.right, this.x(this.first[i] + data.map.length[i]));
    const y1 = Math.min(this.bottom, this.y(this.offset[i])), y0 = Math.max(this.top, this.y(this.offset[i] + data.map.bytes[i]));
    return [x0, y0, x1 - x0, y1 - y0];
  }
  visible(i) {
    return this.first[i] < view.to && this.first[i] + data.map.length[i] > view.from && this.offset[i] < this.high &&
        this.offset[i] + data.map.bytes[i] > this.low;
  }

  draw(c) {
    this.layout(30);
    this.bands(c, 17);
    this.axes(c, this.low, this.high, (v) => this.y(v));
    const named = [];
    for (const i of this.order) {
      if (!this.visible(i)) continue;
      const [x, y, w, h] = this.rectangle(i), group = data.map.group[i];
      // Neighbours of one kind are told apart by shade where there is no room for a line between them.
      c.globalAlpha = [1, 0.84, 0.7][i % 3];
      c.fillStyle = colors['g' + group];
      const gap = w > 5 && h > 5 ? 0.75 : 0;
      c.fillRect(x, y, Math.max(w - gap, this.pixel), Math.max(h - gap, this.pixel));
      if (w > 64 && h > 15) named.push(i);
    }
    c.globalAlpha = 1;
    c.font = '11px ' + colors.mono;
    c.textAlign = 'left';
    c.textBaseline = 'middle';
    for (const i of named) {
      const [x, y, w, h] = this.rectangle(i);
      const room = Math.floor((w - 10) / c.measureText('0').width), name = data.map.name[i];
      if (room < 4) continue;
      c.fillStyle = colors['on-g' + data.map.group[i]];
      c.fillText(name.length > room ? name.slice(0, room - 1) + '…' : name, x + 5, y + Math.min(h / 2, 12));
    }
    if (data.peak >= view.from && data.peak < view.to) {
      const x = crisp(this.x(data.peak + 0.5));
      line(c, x, this.top, x, this.bottom, colors.ink, [2, 3]);
      label(c, 'peak', x + 8, this.bottom - 12, {weight: '600', left: this.left, right: this.right});
    }
  }
  drawCursor(c) {
    this.cursorLine(c);
    if (this.hovered < 0 || !this.visible(this.hovered)) return;
    const [x, y, w, h] = this.rectangle(this.hovered);
    c.lineWidth = 4;
    c.strokeStyle = colors.raised;
    c.strokeRect(x, y, w, h);
    c.lineWidth = 2;
    c.strokeStyle = colors.ink;
    c.strokeRect(x, y, w, h);
  }
  // The buffer at a place; where none is, the nearest within two pixels.
  hit(x, y) {
    let best = -1, least = 3;
    for (let k = this.count - 1; k >= 0; --k) {
      const i = this.order[k];
      if (!this.visible(i)) continue;
      const [left, top, w, h] = this.rectangle(i);
      const far = Math.hypot(Math.max(left - x, 0, x - left - w), Math.max(top - y, 0, y - top - h));
      if (far < least) least = far, best = i;
      if (far === 0) break;
    }
    return best;
  }
  point(x, y) {
    this.hovered = this.hit(x, y);
    super.point(x, y);
  }
  leave() {
    if (!this.drag) this.hovered = -1;
    super.leave();
  }
  key(event) {
    const step = {ArrowUp: 1, ArrowDown: -1}[event.key];
    if (step) {
      const at = view.cursor >= 0 ? view.cursor : Math.max(0, data.peak);
      const alive = Array.from(this.order).filter((i) => this.first[i] <= at && at < this.first[i] + data.map.length[i])
                        .sort((a, b) => this.offset[a] - this.offset[b]);
      const now = alive.indexOf(this.hovered);
      if (alive.length) this.hovered = alive[clamp(now < 0 ? (step > 0 ? 0 : alive.length - 1) : now + step, 0, alive.length - 1)];
      moveTo(at);
      return true;
    }
    if (event.key === 'Escape') this.hovered = -1;
    return super.key(event);
  }
  tell() {
    if (!this.what) return;
    this.what.textContent = '';
    const i = this.hovered;
    if (i < 0) {
      this.what.append(el('span', 'where', 'Point at a buffer for its name, kind, size and lifetime.'));
      return;
    }
    const m = data.map, group = m.group[i], source = data.strings[m.source[i]];
    this.what.append(el('i', 'swatch g' + group), el('code', '', m.name[i]), ' · ' + data.groups[group] + ' · ' + bytesText(m.bytes[i]) +
        ' at ' + bytesText(this.offset[i]) + ' · instructions ' + count(this.first[i]) + '\u2013' + count(this.first[i] + m.length[i] - 1));
    if (source) this.what.append(' · ', el('code', 'where', source));
  }
}
