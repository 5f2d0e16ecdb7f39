"""The largest buffer of each zoo model at S and 2 S: none may grow with the square of the length.

Models whose export is open to it at 4,096 and 8,192, the others at half and all of their range or position table. P = 2."""
import os
import sys

from common import STRATEGIES, ZOO, compile_model, inspect, mib, need, pt2, scratch, table

need(ZOO, "the zoo")
LONGEST = {"nanogpt": 256, "hf_gpt2": 256, "hf_bert": 256, "llamastyle": 128}
rows, failed = [], False
for model in ["hf_llama", "hf_gemma3", "hf_mistral", "hf_qwen3", "nanogpt", "hf_gpt2", "hf_bert", "llamastyle"]:
    for strategy in STRATEGIES:
        lengths, largest = (LONGEST.get(model, 8192) // 2, LONGEST.get(model, 8192)), []
        for seq_len in lengths:
            package = os.path.join(scratch("lengths"), "package")
            compile_model(pt2(model, ZOO), package, 2, seq_len, "--strict", "--strategy", strategy)
            told = inspect(package)
            largest.append((told["largest"][0], told["memory"]["arena"]))
        (one, arena), (two, arena_2) = largest
        # Twice the length is twice the buffer: a square would be four times. Small buffers that do not depend on S grow less.
        failed |= two["bytes"] > 2.1 * one["bytes"] or arena_2 > 2.2 * arena
        rows.append([model, strategy, f"{lengths[0]}, {lengths[1]}", two["name"], mib(one["bytes"]), mib(two["bytes"]),
                     f"{two['bytes'] / one['bytes']:.2f}", f"{arena_2 / arena:.2f}"])
table("Largest buffer at S and 2 S, P = 2", ["model", "strategy", "S", "buffer", "MiB", "MiB", "ratio", "arena's ratio"], rows)
sys.exit(failed)
