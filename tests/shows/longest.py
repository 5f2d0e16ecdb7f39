"""The longest sequence of the peers' model under the peers' limit: a step, P = 2, AdamW, 0.75 GiB above what is held before it.

The peers' figure (../shared/peers, `maxlen --gib 0.75`): AutoSP 21,504 tokens, Ulysses by hand 5,120. Here the package is compiled
for that budget, and one step runs under RLIMIT_DATA set to what is held after loading, the planned arena and
32 MiB, all within those 0.75 GiB. `--seq S` asks for that length instead. A step of 64,512 tokens takes five minutes on two quiet cores."""
import argparse
import os
import subprocess
import sys

from common import compile_model, json_lines, mib, run, scratch, table, torch_python
from peer_export import peer_model

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--seq", type=int, default=64512)
options = parser.parse_args()
LIMIT = (768 - 32) << 20  # the step's own share of RLIMIT_DATA: 32 MiB of 0.75 GiB are for all that is no tensor

BATCH = """
import sys, torch
from safetensors.torch import save_file
path, seq, vocab = sys.argv[1], int(sys.argv[2]), 8192
ids = torch.randint(0, vocab, (1, seq + 1), generator=torch.Generator().manual_seed(1))
save_file({"in.input_ids": ids[:, :-1].clone(), "in.labels": ids[:, 1:].clone(),
           "in.position_ids": torch.arange(seq).unsqueeze(0).contiguous()}, path)
"""

model, _ = peer_model()
folder = scratch("longest")
batch, package = os.path.join(folder, f"batch.{options.seq}.safetensors"), os.path.join(folder, "package")
subprocess.run([torch_python(), "-c", BATCH, batch, str(options.seq)], check=True)
ALWAYS = 114 << 20  # parameters and AdamW's states; the batch, a MiB or two, comes out of the step's share
compile_model(model, package, 2, options.seq, "--optimizer", "adamw", "--memory-budget", str(LIMIT + ALWAYS))
told = json_lines(run("autosp-run", "--nproc-per-node", 2, package, "--data", batch, "--json", "--steps", 1, "--threads", 1, "--measure-memory", "--limit-data"))
step = next(line for line in told if "step" in line)
rows = [[options.seq, line["rank"], mib(line["planned_arena_bytes"]), mib(line["measured_growth_bytes"]), f"{step['seconds']:.0f}",
         f"{options.seq / 21504:.2f}"] for line in told if "rank" in line]
table("One step under RLIMIT_DATA, MiB", ["S", "rank", "planned", "grown", "s", "x AutoSP's 21,504"], rows)
sys.exit(any(line["measured_growth_bytes"] > 768 << 20 for line in told if "rank" in line))
