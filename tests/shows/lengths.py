"""The largest buffer of each zoo model at S and 2 S: none may grow with the square of the length.

Models whose export is open to it at 4,096 and 8,192, the others at half and all of their range or position table. P = 2."""
import os
import sys

from common import STRATEGIES, ZOO, compile_model, inspect, mib, need, pt2, scratch, table

need(ZOO, "the zoo")
LONGEST = {"nanogpt": 256, "hf_gpt2": 256, "hf_bert": 256, "llamastyle": 128}
# Attention's scratch is tiles whose sides end at a fixed size, so it grows with the square of a shorter length and then no more.
TILES = 4 << 20
rows, failed = [], False


def sizes(model, strategy, seq_len):
    """(largest buffer, largest scratch, arena) in bytes."""
    package = os.path.join(scratch("lengths"), "package")
    compile_model(pt2(model, ZOO), package, 2, seq_len, "--strict", "--strategy", strategy)
    told = inspect(package)
    by_kind = [max((b["bytes"] for b in told["largest"] if (b["kind"] == "workspace") == scratch_space), default=0)
               for scratch_space in (False, True)]
    return *by_kind, told["memory"]["arena"]


for model in ["hf_llama", "hf_gemma3", "hf_mistral", "hf_qwen3", "nanogpt", "hf_gpt2", "hf_bert", "llamastyle"]:
    for strategy in STRATEGIES:
        lengths = LONGEST.get(model, 8192) // 2, LONGEST.get(model, 8192)
        one, two = (sizes(model, strategy, s) for s in lengths)
        failed |= two[0] > 2.1 * one[0] or two[1] > max(2.1 * one[1], TILES)
        rows.append([model, strategy, f"{lengths[0]}, {lengths[1]}", f"{mib(one[0])}, {mib(two[0])}", f"{two[0] / one[0]:.2f}",
                     ", ".join(mib(s[1]) if s[1] else "small" for s in (one, two)), f"{mib(one[2])}, {mib(two[2])}"])
table("A rank of 2 at S and 2 S, MiB",
      ["model", "strategy", "S", "largest buffer", "ratio", "largest scratch", "arena"], rows)
sys.exit(failed)
