"""SmolLM2-135M with its real weights at S = 8,192 on 2 ranks, under the smallest budget that plans: the plan, the measured peak, two steps.

AdamW; the text is the licences that Debian has, in the model's own tokens. Beside it what is planned without a budget. Exit 1 if a rank
grows by more than its arena and 32 MiB, or where the plan exceeds 1 GiB by more than 2% of it."""
import glob
import os
import sys

from common import compile_model, inspect, json_lines, lowest_budget, mib, python, run, scratch, table
from smollm2_export import smollm2_model

RANKS, SEQ, STEPS = 2, 8192, 2
TOKENS = """
import sys, numpy, tokenizers
path, tokenizer, texts = sys.argv[1], sys.argv[2], sys.argv[3:]
ids = tokenizers.Tokenizer.from_file(tokenizer).encode("\\n".join(open(t, errors="replace").read() for t in texts)).ids
numpy.array(ids, numpy.uint16).tofile(path)
"""

model, hf, _ = smollm2_model()
folder = scratch("smollm2_long")
package, tokens = os.path.join(folder, "package"), os.path.join(folder, "tokens.bin")
python(["-c", TOKENS], tokens, os.path.join(hf, "tokenizer.json"), *sorted(glob.glob("/usr/share/common-licenses/*")))
given = ["--optimizer", "adamw", "--weights", hf]
compile_model(model, package, RANKS, SEQ, *given)
free = inspect(package)["memory"]
budget = lowest_budget(model, package, RANKS, SEQ, *given)
compiled = compile_model(model, package, RANKS, SEQ, *given, "--memory-budget", budget)
memory = inspect(package)["memory"]
table("Planned for a rank, MiB", ["budget", "compile s", "total", "arena", "persistent"],
      [["none", "", mib(free["total"]), mib(free["arena"]), mib(free["total"] - free["arena"])],
       [mib(budget), f"{compiled.seconds:.1f}", mib(memory["total"]), mib(memory["arena"]), mib(memory["total"] - memory["arena"])]])
told = json_lines(run("autosp-run", "--nproc-per-node", RANKS, package, "--data", tokens, "--labels", "unshifted", "--steps", STEPS, "--threads", 1, "--json",
                      "--measure-memory"))
ranks = [line for line in told if "rank" in line]
table("Measured, MiB", ["rank", "arena planned", "grown", "outside the arena"],
      [[line["rank"], mib(line["planned_arena_bytes"]), mib(line["measured_growth_bytes"]), line["bytes_outside_arena"]] for line in ranks])
table("Steps", ["step", "loss", "gradient norm", "s"],
      [[line["step"], f"{line['loss']:.4f}", f"{line['grad_norm']:.4f}", f"{line['seconds']:.1f}"] for line in told if "step" in line])


def allowed(planned):
    return planned + max(32 << 20, planned // 50 if planned > 1 << 30 else 0)


sys.exit(any(line["measured_growth_bytes"] > allowed(line["planned_arena_bytes"]) for line in ranks))
