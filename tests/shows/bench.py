"""A training step beside hand-written DeepSpeed-Ulysses and AutoSP, in one run: seconds, peak memory and ratios. S = 2,048 and 8,192, P = 2.

Forward, backward and AdamW of the peers' model, float32, one thread a rank, Gloo. Seconds: median after a warm-up step. Memory: peak
above the state after loading (parameters and optimiser state in place). autospc stands there without a budget and with one a rank, which
counts what is always there too (114 MiB). `--seq S` (repeatable) and `--variant NAME` (of a, b, c, d,
autosp1, autosp2; default b and autosp2) choose. The first run installs the peers (../shared/peers/env.sh)."""
import argparse
import json
import os
import statistics
import subprocess
import sys

from common import PEERS, STRATEGIES, compile_model, json_lines, run_golden, scratch, table
from peer_export import LENGTHS, peer_model

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--seq", type=int, action="append", choices=LENGTHS)
parser.add_argument("--variant", action="append", choices=["a", "b", "c", "d", "autosp1", "autosp2"])
options = parser.parse_args()
STEPS = 4
BUDGETS = {2048: "170MiB", 8192: "290MiB"}


def peer(variant, seq_len):
    """(seconds, MiB, first step's seconds) of a peer."""
    if variant.startswith("autosp"):
        command = f"python autosp_run.py bench --sac {variant[-1]} --seq {seq_len}"
    else:
        command = f"python ulysses.py bench --variant {variant} --seq {seq_len}"
    done = subprocess.run(["bash", "-c", f". ./env.sh && {command}"], cwd=PEERS, capture_output=True, text=True,
                          env={**os.environ, "PEERS_RESULTS": scratch("bench"), "PYTHONDONTWRITEBYTECODE": "1"})
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    told = json.loads(lines[-1]) if lines else {"ok": False}
    if not told.get("ok"):
        print(f"{command}: {(done.stdout + done.stderr)[-2000:]}", file=sys.stderr)
        return None
    return told["median_s"], max(told["peak_steady_mib"]), told["warm_s"]


def ours(model, golden, seq_len, strategy, *flags):
    package = os.path.join(scratch("bench"), "package")
    compiled = compile_model(model, package, 2, seq_len, "--optimizer", "adamw", "--strategy", strategy, *flags)
    told = json_lines(run_golden(package, 2, golden, "--steps", STEPS, "--lr", "1e-4", "--threads", 1, "--measure-memory", check=True))
    steps = [line for line in told if "step" in line]
    grown = max(line["measured_growth_bytes"] for line in told if "rank" in line)
    return statistics.median(s["seconds"] for s in steps[1:]), grown / 2**20, compiled.seconds + steps[0]["seconds"]


model, goldens = peer_model()
rows = []
for seq_len in options.seq or LENGTHS:
    measured = {f"autospc, {s}": ours(model, goldens[seq_len], seq_len, s) for s in STRATEGIES}
    budget = BUDGETS[seq_len]
    measured[f"autospc, {budget}"] = ours(model, goldens[seq_len], seq_len, "ulysses", "--memory-budget", budget)
    measured.update({v: peer(v, seq_len) for v in options.variant or ["b", "autosp2"]})
    base = measured["autospc, ulysses"]
    for name, result in measured.items():
        if result is None:
            rows.append([seq_len, name, "failed", "", "", "", ""])
        else:
            rows.append([seq_len, name, f"{result[0]:.2f}", f"{result[0] / base[0]:.2f}", f"{result[1]:.0f}", f"{result[1] / base[1]:.2f}",
                         f"{result[2]:.1f}"])
names = {"a": "one process", "b": "Ulysses by hand", "c": "b + checkpointing", "d": "b + torch.compile", "autosp1": "AutoSP, its rule",
         "autosp2": "AutoSP, mended rule"}
table("A step, P = 2 (ratio: to autospc with Ulysses; first: compilation and first step)",
      ["S", "trainer", "s", "ratio", "MiB", "ratio", "first s"], [[r[0], names.get(r[1], r[1]), *r[2:]] for r in rows])
