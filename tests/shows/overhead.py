"""Tokens a second of the runtime against the sum of its kernels' times, and the time to the first step beside Python's.

Overhead: what a step takes beyond its instructions (`--time-ops`), and what the training loop with all that is to be seen (a line, metrics,
TensorBoard events) takes beyond bare steps. Start: SmolLM2, weights mapped from a package of one rank, from exec to the end of the first
step, beside `import torch, transformers`, loading and one step in eager. `--quick` leaves SmolLM2 out."""
import argparse
import json
import os
import re
import statistics
import sys

from common import ZOO, compile_model, golden, json_lines, MODELS, pt2, python, run, run_golden, scratch, table
from peer_export import peer_model
from smollm2_export import smollm2_model

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--quick", action="store_true")
parser.add_argument("--steps", type=int, default=8)
options = parser.parse_args()
failed = False


def overhead(name, path, file, seq_len, ranks):
    """Of rank 0: seconds of the steps told, and of the instructions in the same steps."""
    package = os.path.join(scratch("overhead"), "package")
    compile_model(path, package, ranks, seq_len, "--optimizer", "adamw")
    metrics = os.path.join(scratch("overhead"), "metrics.jsonl")
    if os.path.exists(metrics):
        os.remove(metrics)
    told = json_lines(run_golden(package, ranks, file, "--steps", options.steps, "--threads", 1, "--time-ops", "--metrics", metrics,
                                 "--tensorboard", os.path.join(scratch("overhead"), "tb"), check=True))
    steps = [line for line in told if "loss" in line]
    kernels = sum(line["seconds"] for line in told if "fastest" in line)  # the mean of a step
    # From one line to the next all is counted: the step, its batch, the line, the files.
    with open(metrics) as f:
        times = [json.loads(line)["time"] for line in f]
    mean = statistics.mean(line["seconds"] for line in steps)
    between = (times[-1] - times[0]) / (len(times) - 1)
    rest = [line["seconds"] for line in steps[1:]]
    tokens = steps[0].get("tokens", 0)
    of_loop = between / statistics.mean(rest) - 1
    return [name, seq_len, ranks, f"{kernels:.4f}", f"{mean:.4f}", f"{100 * (mean / kernels - 1):.2f}%", f"{100 * of_loop:.2f}%",
            f"{tokens / between:.0f}", f"{tokens / kernels:.0f}"], mean / kernels * (1 + of_loop) - 1


model, goldens = peer_model()
rows = []
for seq_len, ranks in ((2048, 1), (2048, 2)) + (() if options.quick else ((8192, 2),)):
    row, worst = overhead("peers' model", model, goldens[seq_len], seq_len, ranks)
    rows.append(row)
    failed |= worst > 0.02
row, _ = overhead("models/llama", pt2("llama", MODELS), golden("llama", "s64", MODELS), 64, 1)
rows.append(row)  # microseconds a kernel: the limit is for models that are worth training
table("A step against the sum of its kernels (limit 2% but for the smallest)",
      ["model", "S", "P", "kernels s", "step s", "step beyond", "loop beyond", "tokens/s", "of kernels"], rows)

EAGER = """
import time, sys, psutil, os
begin = psutil.Process().create_time()
import torch, transformers
imported = time.time()
from safetensors.torch import load_file
torch.set_num_threads(int(sys.argv[3]))
model = transformers.AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32)
batch = load_file(sys.argv[2])
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
loaded = time.time()
loss = model(input_ids=batch['in.input_ids'], labels=batch['in.labels']).loss
loss.backward()
optimizer.step()
print(f'{imported - begin:.2f} {loaded - begin:.2f} {time.time() - begin:.2f} {loss.item():.4f}')
""".replace("psutil.Process().create_time()", "time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) + "
            "int(open('/proc/self/stat').read().rsplit(')', 1)[1].split()[19]) / os.sysconf('SC_CLK_TCK')").replace(", psutil", "")


def start():
    """From exec to when the first step begins and has ended, weights mapped and not."""
    global failed
    model, checkpoint, file = smollm2_model()
    package = os.path.join(scratch("overhead"), "smollm2")
    rows = []
    for optimizer in ("none", "sgd"):
        compile_model(model, package, 1, 509, "--optimizer", optimizer, "--weights", checkpoint)
        best = None
        for _ in range(3):
            ran = run("autosp-run", package, "--golden", file, "--steps", "1", "--json", "--threads", 2)
            line = json_lines(ran)[0]
            ready = float(re.search(r"ready after (\S+) s", ran.err).group(1))
            if best is None or ready < best[0]:
                best = (ready, ready + line["seconds"], line["loss"])
        weights = "mapped" if optimizer == "none" else "copied (a step writes them)"
        rows.append([f"autosp-run, {weights}", f"{best[0]:.2f}", f"{best[1]:.2f}", f"{best[2]:.4f}"])
        failed |= optimizer == "none" and best[0] > 1
    imported, loaded, stepped, loss = python(["-c", EAGER], checkpoint, file, 2).split()[-4:]
    rows.append([f"eager PyTorch (import alone {imported} s)", loaded, stepped, loss])
    table("SmolLM2-135M, S = 509, one process of two threads: seconds from exec", ["", "first step begins", "first step ended", "loss"], rows)


if not options.quick and os.path.isdir(ZOO):
    start()
sys.exit(failed)
