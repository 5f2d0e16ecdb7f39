"""The plot of the show `curve`, as SVG text: seconds of a step by planned peak, in colours that can be read on light and on dark."""
import math

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 420, 64, 24, 56, 52
TEXT, GRID, OURS, RULE = "#7d8590", "#7d859055", "#2f81f7", "#db6d28"


def ticks(low, high, about=6):
    step = 10 ** math.floor(math.log10((high - low) / about))
    step = next(step * m for m in (1, 2, 5, 10) if (high - low) / (step * m) <= about)
    return [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def plot(title, ours, rules):
    """Points have peak (bytes), seconds and, where they ran, measured; rules a rule's name besides."""
    points = ours + rules
    xs = [p["peak"] / 2**20 for p in points]
    ys = [s for p in points for s in (p["seconds"], p.get("measured")) if s is not None]
    x0, x1 = min(xs) - 0.04 * (max(xs) - min(xs)), max(xs) + 0.12 * (max(xs) - min(xs))
    y0, y1 = 0, 1.08 * max(ys)

    def x(peak):
        return LEFT + (peak / 2**20 - x0) / (x1 - x0) * (WIDTH - LEFT - RIGHT)

    def y(seconds):
        return HEIGHT - BOTTOM - (seconds - y0) / (y1 - y0) * (HEIGHT - TOP - BOTTOM)

    def text(px, py, what, anchor="middle", size=12, colour=TEXT):
        return f'<text x="{px:.1f}" y="{py:.1f}" text-anchor="{anchor}" font-size="{size}" fill="{colour}">{what}</text>'

    def dot(px, py, colour, filled, tip):
        return (f'<circle cx="{px:.1f}" cy="{py:.1f}" r="4" fill="{colour if filled else "none"}" stroke="{colour}" stroke-width="1.5">'
                f"<title>{tip}</title></circle>")

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" font-family="system-ui, sans-serif">',
           f"<title>{title}: seconds of a step by planned peak</title>", text(LEFT, 20, title, "start", 14)]
    for t in ticks(y0, y1):
        out.append(f'<path d="M{LEFT} {y(t):.1f}H{WIDTH - RIGHT}" stroke="{GRID}"/>')
        out.append(text(LEFT - 8, y(t) + 4, f"{t:g}", "end"))
    for t in ticks(x0, x1):
        out.append(text(x(t * 2**20), HEIGHT - BOTTOM + 18, f"{t:g}"))
    out.append(text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 12, "planned peak of a rank, MiB"))
    out.append(f'<text transform="translate(16 {(TOP + HEIGHT - BOTTOM) / 2:.1f}) rotate(-90)" text-anchor="middle" font-size="12" '
               f'fill="{TEXT}">seconds of a step</text>')
    legend = [(OURS, False, "autospc, estimated"), (OURS, True, "measured"), (RULE, False, "others' rules, estimated"), (RULE, True, "measured")]
    at = LEFT + 4
    for colour, filled, what in legend:
        out += [dot(at, 37, colour, filled, what), text(at + 10, 41, what, "start")]
        at += 30 + 6.4 * len(what)
    path = "L".join(f"{x(p['peak']):.1f} {y(p['seconds']):.1f}" for p in sorted(ours, key=lambda p: p["peak"]))
    out.append(f'<path d="M{path}" fill="none" stroke="{OURS}" stroke-width="1.5"/>')
    for p in points:
        rule = p.get("rule")
        colour, name = (RULE, rule) if rule else (OURS, p["label"])
        out.append(dot(x(p["peak"]), y(p["seconds"]), colour, False, f"{name}: {p['peak'] / 2**20:.1f} MiB, {p['seconds']:.3f} s estimated"))
        if "measured" in p:
            out.append(dot(x(p["peak"]), y(p["measured"]), colour, True, f"{name}: {p['peak'] / 2**20:.1f} MiB, {p['measured']:.3f} s measured"))
        if rule:
            out.append(text(x(p["peak"]) + 9, y(p["seconds"]) + 4, rule, "start", 12, colour))
    return "\n".join(out + ["</svg>", ""])
