// Time against memory: one point a candidate.
const inside = ([left, top, w, h], x, y) => x > left - 5 && x < left + w + 5 && y > top - 5 && y < top + h + 5;
class Curve extends Plot {
  constructor() {
    super('curve');
    this.points = data.curve.map((p, i) => ({...p, i})).sort((a, b) => a.peak - b.peak || a.seconds - b.seconds);
    this.at = -1;
    this.what = this.readout.appendChild(el('div', 'what'));
    this.box.addEventListener('pointerleave', () => this.choose(-1));
    this.choose(-1);
  }
  choose(at) {
    this.at = at;
    this.moveCursor();
    const p = at >= 0 ? this.points[at] : this.points.find((q) => q.chosen);
    this.what.textContent = '';
    if (!p) {
      this.what.append(el('span', 'where', 'Point at a candidate for its figures.'));
      return;
    }
    const again = p.again > 0 ? ', ' + secondsText(p.again) + ' of it runs again' : ', nothing runs again';
    const over = data.budget > 0 && p.peak > data.budget ? ' · over the budget by ' + bytesText(p.peak - data.budget) : '';
    this.what.append(el('b', '', p.label), (p.chosen ? ' (chosen)' : '') + ' · ' + bytesText(p.peak) + ' · ' + secondsText(p.seconds) + again + over);
  }
  x(bytes) { return this.left + ((bytes - this.x0) / (this.x1 - this.x0)) * (this.right - this.left); }
  y(seconds) { return Math.max(this.top, this.bottom - ((seconds - this.y0) / (this.y1 - this.y0)) * (this.bottom - this.top)); }

  range() {
    const peaks = this.points.map((p) => p.peak), times = this.points.map((p) => p.seconds);
    const most = Math.max(...peaks);
    const near = data.budget > 0 && data.budget < 1.6 * most;
    let [a, b] = [Math.min(...peaks, ...(near ? [data.budget] : [])), Math.max(most, near ? data.budget : 0)];
    // A few very slow candidates would flatten the rest: they are then marked at the upper edge.
    const sorted = [...times].sort((p, q) => p - q);
    let [s, t] = [sorted[0], sorted[sorted.length - 1]];
    const usual = Math.max(sorted[Math.floor(0.8 * (sorted.length - 1))], ...this.points.filter((p) => p.rule || p.chosen).map((p) => p.seconds));
    if (t - s > 1.5 * (usual - s) && usual > s) t = usual;
    const wide = (low, high, share) => (high > low ? (high - low) * share : Math.abs(high) * 0.05 || 1);
    [this.x0, this.x1] = [Math.max(0, a - wide(a, b, 0.06)), b + wide(a, b, 0.06)];
    [this.y0, this.y1] = [Math.max(0, s - wide(s, t, 0.12)), t + wide(s, t, 0.14)];
    this.near = near;
  }
  draw(c) {
    this.left = this.narrow ? 58 : 72;
    this.right = this.width - (this.narrow ? 12 : 18);
    this.top = 30;
    this.bottom = this.height - 46;
    this.range();
    c.textBaseline = 'middle';
    for (const [value, text] of secondTicks(this.y0, this.y1, 5)) {
      const y = crisp(this.y(value));
      line(c, this.left, y, this.right, y, colors.rule);
      c.textAlign = 'right';
      c.fillStyle = colors.muted;
      c.fillText(text, this.left - 8, y);
    }
    for (const [value, text] of byteTicks(this.x0, this.x1, this.narrow ? 3 : 7)) {
      const x = crisp(this.x(value));
      line(c, x, this.bottom, x, this.bottom + 5, colors.faint);
      c.textAlign = 'center';
      c.fillStyle = colors.muted;
      c.fillText(text, clamp(x, this.left + 10, this.right - 20), this.bottom + 14);
    }
    line(c, this.left, crisp(this.bottom), this.right, crisp(this.bottom), colors.faint);
    c.fillStyle = colors.muted;
    c.textAlign = 'right';
    c.fillText('peak of a rank →', this.right, this.bottom + 33);
    c.textAlign = 'left';
    c.fillText('↑ estimated time of a step', this.narrow ? 12 : 18, 13);
    const placed = [];
    if (this.near) {
      const x = crisp(this.x(data.budget));
      c.globalAlpha = 0.07;
      c.fillStyle = colors.alarm;
      c.fillRect(x, this.top, this.right - x, this.bottom - this.top);
      c.globalAlpha = 1;
      line(c, x, this.top, x, this.bottom, colors.alarm, [], 1.5);
      placed.push(label(c, 'budget ' + bytesText(data.budget), x, 15, {align: 'center', color: colors.alarm, left: this.narrow ? 190 : this.left, right: this.right}));
    }
    this.frontier(c);
    for (const p of this.points) if (!p.rule && !p.chosen) this.dot(c, p);
    for (const p of this.points) if (p.rule && !p.chosen) this.dot(c, p);
    for (const p of this.points) if (p.chosen) this.dot(c, p);
    this.names(c, placed);
  }
  // What a limit of so many bytes costs: a staircase through those that none beats.
  frontier(c) {
    c.beginPath();
    c.lineWidth = 1.5;
    c.strokeStyle = colors.accent;
    let last = null;
    for (const p of this.points) {
      if (!p.best) continue;
      const [x, y] = [this.x(p.peak), this.y(p.seconds)];
      if (last === null) c.moveTo(x, y);
      else c.lineTo(x, last), c.lineTo(x, y);
      last = y;
    }
    if (last !== null) c.lineTo(this.right, last);
    c.stroke();
  }
  dot(c, p) {
    const [x, y] = [this.x(p.peak), this.y(p.seconds)];
    c.beginPath();
    if (p.seconds > this.y1) {
      c.moveTo(x, y - 1); c.lineTo(x + 5, y + 8); c.lineTo(x - 5, y + 8); c.closePath();
    } else if (p.rule && !p.chosen) {
      c.moveTo(x, y - 7); c.lineTo(x + 7, y); c.lineTo(x, y + 7); c.lineTo(x - 7, y); c.closePath();
    } else {
      c.arc(x, y, p.chosen ? 7.5 : p.best ? 4 : 3, 0, 2 * Math.PI);
    }
    c.fillStyle = p.chosen ? colors.ink : p.rule ? colors.g3 : p.best ? colors.accent : colors.raised;
    c.fill();
    c.lineWidth = p.chosen || p.rule ? 2 : 1.25;
    c.strokeStyle = p.chosen || p.rule ? colors.raised : p.best ? colors.raised : colors.faint;
    c.stroke();
  }
  // The choice and the rules of others by name, each at the free place around its point that hides the fewest points.
  names(c, placed) {
    const free = ([x, y, w, h]) => x >= this.left && x + w <= this.right + 4 && y >= this.top && y + h <= this.bottom &&
        placed.every(([a, b, v, u]) => x + w < a || a + v < x || y + h < b || b + u < y);
    const named = this.points.filter((p) => p.chosen || p.rule).sort((a, b) => b.chosen - a.chosen);
    for (const p of named) placed.push([this.x(p.peak) - 8, this.y(p.seconds) - 8, 16, 16]);
    for (const p of named) {
      const text = !p.chosen ? p.label : p.label.length < 24 ? 'chosen: ' + p.label : 'chosen', [x, y] = [this.x(p.peak), this.y(p.seconds)];
      c.font = '600 12px ' + colors.text;
      const w = c.measureText(text).width;
      const tries = [[12, 0], [-12 - w, 0], [-w / 2, -19], [-w / 2, 19], [10, -16], [-10 - w, -16], [10, 16], [-10 - w, 16], [-w / 2, -36], [-w / 2, 36]];
      const at = ([dx, dy]) => [x + dx - 3, y + dy - 8, w + 6, 16];
      const hidden = (box) => this.points.filter((q) => inside(box, this.x(q.peak), this.y(q.seconds))).length;
      const places = tries.filter((t) => free(at(t)));
      const place = places.length ? places.reduce((a, b) => (hidden(at(b)) < hidden(at(a)) ? b : a)) : tries[2];
      placed.push(label(c, text, x + place[0], y + place[1], {weight: '600', left: this.left, right: this.right}));
    }
  }
  drawCursor(c) {
    if (this.at < 0) return;
    const p = this.points[this.at];
    c.beginPath();
    c.arc(this.x(p.peak), this.y(p.seconds), 11, 0, 2 * Math.PI);
    c.lineWidth = 2;
    c.strokeStyle = colors.ink;
    c.stroke();
  }
  point(x, y) {
    let best = -1, least = 40;
    this.points.forEach((p, i) => {
      const far = Math.hypot(this.x(p.peak) - x, this.y(p.seconds) - y);
      if (far < least) least = far, best = i;
    });
    if (best !== this.at) this.choose(best);
  }
  key(event) {
    const step = {ArrowLeft: -1, ArrowRight: 1}[event.key];
    if (!step) return false;
    const now = this.at >= 0 ? this.at : this.points.findIndex((p) => p.chosen);
    this.choose(clamp(now + step, 0, this.points.length - 1));
    return true;
  }
}
