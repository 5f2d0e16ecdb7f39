"""200 AdamW steps of a byte-level GPT on a real text (Debian's licences) at P = 1, 2, 3, 4: each loss within 1e-3 of every other's and
of eager PyTorch's on the same batches; with dropout 0.1, P = 1, 2, 4 within 1e-4 of each other.

nanoGPT's learning rate, 6e-4. At five times that, eager float32 itself ends 8e-3 from eager float64: rounding grows from step to step."""
import glob
import json
import os
import sys

from common import compile_model, json_lines, python, run, scratch, table

STEPS, SEQ = 200, 256
files = sorted(f for f in glob.glob("/usr/share/common-licenses/*") if not os.path.islink(f))
folder = scratch("train")
python(os.path.join(os.path.dirname(os.path.abspath(__file__)), "train_eager.py"), folder, *files)
with open(os.path.join(folder, "eager.json")) as f:
    eager = json.load(f)


def train(model, ranks):
    package = os.path.join(folder, "package")
    compile_model(os.path.join(folder, model + ".pt2"), package, ranks, SEQ, "--optimizer", "adamw", "--clip-norm", 1)
    ran = run("autosp-run", "--nproc-per-node", ranks, package, "--data", *files, "--token-dtype", "uint8", "--steps", STEPS, "--lr", 6e-4,
              "--lr-schedule", "cosine", "--warmup", 20, "--min-lr", 6e-5, "--seed", 5, "--json")
    steps = [line for line in json_lines(ran) if "loss" in line]
    if len(steps) != STEPS:
        print(ran.text[-2000:])
        sys.exit(1)
    return [s["loss"] for s in steps], sum(s["seconds"] for s in steps) / STEPS


def apart(a, b):
    return max(abs(x - y) for x, y in zip(a, b, strict=True))


def every(losses, n):
    return "  ".join(f"{x:.3f}" for x in losses[::n])


curves = {"eager float32": eager["losses"]["float32"], "eager float64": eager["losses"]["float64"]}
rows, failed = [[name, every(c, 40), f"{c[-1]:.6f}", apart(c, curves["eager float64"]), "", ""] for name, c in curves.items()], False
mine = {}
for ranks in (1, 2, 3, 4):
    mine[ranks], seconds = train("plain", ranks)
    worst = max(apart(mine[ranks], other) for other in [*curves.values(), *mine.values()])
    failed |= not worst <= 1e-3
    rows.append([f"P = {ranks}", every(mine[ranks], 40), f"{mine[ranks][-1]:.6f}", apart(mine[ranks], curves["eager float64"]),
                 apart(mine[ranks], mine[1]), f"{seconds * 1e3:.0f}"])
print(f"{sum(os.path.getsize(f) for f in files)} bytes of {len(files)} texts, {eager['samples']} samples of {SEQ}, batch 4")
table("200 steps without dropout: losses may be 1e-3 apart", ["run", "loss at steps 1, 41, …", "last", "from eager float64", "from P = 1", "ms a step"], rows)
rows, dropped = [], {}
for ranks in (1, 2, 4):
    dropped[ranks], seconds = train("dropout", ranks)
    worst = max(apart(dropped[ranks], other) for other in dropped.values())
    failed |= not worst <= 1e-4 or apart(dropped[ranks], mine[1]) < 1e-3  # it must drop something
    rows.append([f"P = {ranks}", every(dropped[ranks], 40), f"{dropped[ranks][-1]:.6f}", apart(dropped[ranks], dropped[1]), f"{seconds * 1e3:.0f}"])
table("200 steps with dropout 0.1: losses may be 1e-4 apart", ["run", "loss at steps 1, 41, …", "last", "from P = 1", "ms a step"], rows)
sys.exit(failed)
