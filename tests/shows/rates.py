"""This machine's rates beside the table that estimates time (codegen/rates.cc), and a step's estimated time beside the measured one.

Every instruction of a compiled step is timed (`autosp-run --time-ops`), each in the step in which it took least, and by the thread's
processor time but for collectives, so that other work on the machine counts little; FLOPs and bytes are the cost model's
(`autospc plan --json`). Two ranks, one thread each. `--quick` leaves S = 8,192 out."""
import argparse
import json
import os

from common import MODELS, compile_model, golden, json_lines, pt2, run, run_golden, scratch, table
from peer_export import peer_model

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--quick", action="store_true")
parser.add_argument("--steps", type=int, default=5)
options = parser.parse_args()

model, goldens = peer_model()
cases = [("peers' model", model, goldens[s], s) for s in (2048,) + (() if options.quick else (8192,))]
cases.append(("models/llama", pt2("llama", MODELS), golden("llama", "s64", MODELS), 64))
PRODUCTS = ("matmul", "attention", "attention backward")

rates, steps = [], []
for name, path, file, seq_len in cases:
    package = os.path.join(scratch("rates"), "package")
    flags = ["--optimizer", "adamw", "--recompute", "none", "--tile", "off"]
    compile_model(path, package, 2, seq_len, *flags)
    planned = json.loads(run("autospc", "plan", path, "--ranks", 2, "--seq-len", seq_len, "--json", *flags).out)["rows"][0]
    told = json_lines(run_golden(package, 2, file, "--steps", options.steps, "--threads", 1, "--time-ops", check=True))
    measured = {line["op"]: line for line in told if "fastest" in line}
    kinds = {}
    for op in planned["ops"]:
        ran = measured.pop(op["op"])
        assert ran["count"] == op["count"], (op, ran)
        sums = kinds.setdefault(op["kind"], [0, 0, 0, 0, 0, 0])
        for i, x in enumerate((ran["count"], ran["fastest" if op["kind"] == "collective" else "busy"], op["seconds"], op["flops"], op["bytes_moved"], op["bytes_sent"])):
            sums[i] += x
    assert not measured, f"ran, and not in the plan: {list(measured)}"
    for kind, (count, ran, estimated, flops, moved, sent) in sorted(kinds.items(), key=lambda k: -k[1][1]):
        work, unit = (flops, "GFLOP/s") if kind in PRODUCTS else (sent, "GB/s sent") if kind == "collective" else (moved, "GB/s")
        rates.append([name, seq_len, kind, count, f"{ran:.4f}", f"{estimated:.4f}", f"{estimated / ran:.2f}", f"{work / ran / 1e9:.2f}",
                      f"{work / estimated / 1e9:.2f}", unit])
    seconds = sorted(line["seconds"] for line in told if "step" in line)
    best = sum(k[1] for k in kinds.values())
    steps.append([name, seq_len, f"{planned['seconds']:.4f}", f"{best:.4f}", f"{planned['seconds'] / best:.2f}", f"{seconds[0]:.4f}",
                  f"{seconds[len(seconds) // 2]:.4f}"])

table("Instructions by kind, rank 0 of 2 (seconds a step; rates as measured and as the table and the model make them)",
      ["model", "S", "kind", "calls", "measured s", "estimated s", "ratio", "measured", "estimated", ""], rates)
table("A step, seconds", ["model", "S", "estimated", "instructions at best", "ratio", "fastest step", "median step"], steps)
