"""--dtype bf16 beside float32: 50 AdamW steps of two models of the zoo (else of models/) at P = 1, 2, and the planned memory of both."""
import os
import sys

from common import MODELS, ZOO, compile_model, golden, inspect, json_lines, pt2, run_golden, scratch, table

STEPS, LR, LIMIT = 50, 0.003, 2e-2
root, models, length = (ZOO, ["nanogpt", "hf_llama"], 64) if os.path.isdir(ZOO) else (MODELS, ["gpt", "llama"], 64)


def train(model, ranks, *more):
    package = os.path.join(scratch("bf16"), "package")
    compile_model(pt2(model, root), package, ranks, length, "--optimizer", "adamw", *more)
    steps = json_lines(run_golden(package, ranks, golden(model, f"s{length}", root), "--steps", STEPS, "--lr", LR, check=True))
    return [s["loss"] for s in steps], inspect(package)["memory"]


def kib(memory, key):
    return f"{memory.get(key, 0) / 1024:.0f}"


rows, failed = [], False
for model in models:
    for ranks in (1, 2):
        wide, wide_memory = train(model, ranks)
        narrow, narrow_memory = train(model, ranks, "--dtype", "bf16")
        apart = max(abs(a - b) for a, b in zip(wide, narrow, strict=True))
        failed |= not apart <= LIMIT
        rows.append([model, ranks, f"{wide[0]:.4f}", f"{wide[-1]:.5f}", f"{narrow[-1]:.5f}", apart]
                    + [f"{kib(wide_memory, k)} / {kib(narrow_memory, k)}" for k in ("weights", "optimizer", "arena", "total")])
table(f"{STEPS} AdamW steps in float32 and with --dtype bf16 (losses within {LIMIT:g}); planned KiB a rank, float32 / bf16",
      ["model", "P", "first loss", "last, f32", "last, bf16", "worst apart", "weights", "optimizer", "arena", "total"], rows)
sys.exit(failed)
