"""Compile time, memory and package size of llama3-8b at S = 131,072, P = 8, and of llama3-70b: at most 2 s and 5 s."""
import os

from common import ZOO, compile_model, inspect, mib, need, scratch, table

need(ZOO, "the zoo")
rows, details = [], []
for model, limit in (("llama3-8b", 2.0), ("llama3-70b", 5.0)):
    package = os.path.join(scratch("compile"), model)
    runs = [compile_model(os.path.join(ZOO, model + ".pt2"), package, 8, 131072, "--time-passes", "--optimizer", "adamw") for _ in range(3)]
    best = min(runs, key=lambda r: r.seconds)
    size = sum(os.path.getsize(os.path.join(d, f)) for d, _, names in os.walk(package) for f in names)
    rows.append([model, f"{best.seconds:.2f}", f"{max(r.seconds for r in runs):.2f}", f"{limit:.0f}", mib(best.peak), mib(size / 8)])
    details.append(f"{model}:\n{best.text.strip()}")
table("autospc compile, S = 131,072, P = 8, AdamW (best and worst of three runs)",
      ["model", "s", "worst s", "at most", "compiler MiB", "package MiB a rank"], rows)
print("\n" + "\n\n".join(details))
