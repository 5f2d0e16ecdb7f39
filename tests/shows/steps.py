"""Twenty AdamW steps with clipping on P = 1, 2, 4 against eager PyTorch in float64: each loss within 1e-4."""
import os
import sys

from common import MODELS, ZOO, compile_model, golden, json_lines, pt2, run_golden, safetensors, scratch, table

cases = [(m, MODELS, os.path.join(MODELS, m, m + ".steps_s61.safetensors")) for m in ("gpt", "llama", "frozen")]
if os.path.isdir(ZOO):
    cases += [(m, ZOO, os.path.join(MODELS, "steps", m + ".steps_s61.safetensors")) for m in ("nanogpt", "hf_llama")]
rows, failed = [], False
for model, root, file in cases:
    eager, metadata = safetensors(file)
    for ranks in (1, 2, 4):
        package = os.path.join(scratch("steps"), "package")
        compile_model(pt2(model, root), package, ranks, 61, "--optimizer", "adamw", "--clip-norm", metadata["clip"])
        steps = json_lines(run_golden(package, ranks, golden(model, "s61", root), "--steps", 20, "--lr", metadata["lr"], check=True))

        def worst(key, reference):
            return max(abs(step[key] - r) / abs(r) for step, r in zip(steps, reference, strict=True))
        losses, norms = worst("loss", eager["losses"]), worst("grad_norm", eager["grad_norms"])
        failed |= not losses <= 1e-4
        rows.append([model, ranks, f"{eager['losses'][0]:.4f}", f"{steps[-1]['loss']:.6f}", f"{eager['losses'][-1]:.6f}", losses, norms])
table("20 AdamW steps, clipped to norm 1",
      ["model", "P", "first loss", "last loss", "in eager", "worst loss error", "worst norm error"], rows)
sys.exit(failed)
