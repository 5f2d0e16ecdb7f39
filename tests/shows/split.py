"""How a step is split: FLOPs and activation bytes of a rank at P = 4 against P = 1, and collectives' bytes against a formula.

Ulysses; S = 4,096 where the export allows it, else the last length of its range or position table."""
import os
import sys

from common import ZOO, compile_model, inspect, need, pt2, scratch, table

need(ZOO, "the zoo")
P, LAYERS, BATCH, HEAD = 4, 2, 2, 16
LONGEST = {"nanogpt": 256, "hf_gpt2": 256, "hf_bert": 256, "llamastyle": 128}
KV = {"nanogpt": 4, "hf_gpt2": 4, "hf_bert": 4}  # of 4 query heads; the others have 2
rows, moved, failed = [], [], False


def compiled(model, ranks, seq_len):
    package = os.path.join(scratch("split"), "package")
    compile_model(pt2(model, ZOO), package, ranks, seq_len, "--strict", "--strategy", "ulysses")
    return inspect(package)


for model in ["nanogpt", "llamastyle", "hf_llama", "hf_gpt2", "hf_qwen3", "hf_mistral", "hf_gemma3", "hf_bert"]:
    seq_len = LONGEST.get(model, 4096)
    one, four = compiled(model, 1, seq_len), compiled(model, P, seq_len)
    flops = four["flops"] / one["flops"]
    activations = four["memory"]["activations"] / one["memory"]["activations"]
    arena = four["memory"]["arena"] / one["memory"]["arena"]
    failed |= flops > 0.27 or activations > 0.3
    rows.append([model, seq_len, f"{flops:.3f}", f"{activations:.3f}", f"{arena:.3f}", len(four["notes"])])

    # A layer's attention moves q, k, v to the heads' ranks and the output back, and the same backwards. A rank sends to each of the
    # P - 1 others its rows of the heads that live there: ceil(4 / P) query heads, and the kv heads that these need.
    rows_of_rank = -(-seq_len // P)
    q = -(-4 // P)
    kv = max(len({head * KV.get(model, 2) // 4 for head in range(r * q, min(4, (r + 1) * q))}) for r in range(P))
    expected = LAYERS * 2 * (2 * q + 2 * kv) * (P - 1) * BATCH * rows_of_rank * HEAD * 4
    by_op = {c["op"].replace("autosp.", ""): c for c in four["collectives"]}
    exchanged = by_op.pop("all_to_all", {"bytes": 0})["bytes"]
    reduced = sum(by_op[op]["bytes"] for op in list(by_op) if op.startswith("all_reduce"))
    gradients = 2 * (P - 1) / P * one["memory"]["weights"]
    others = ", ".join(f"{op} {c['count']} x, {c['bytes']} B" for op, c in by_op.items() if not op.startswith("all_reduce"))
    failed |= exchanged != expected
    moved.append([model, exchanged, expected, reduced, f"{gradients:.0f}", others or "none"])
table(f"A rank of {P} against one device, Ulysses, --strict",
      ["model", "S", "FLOPs (<= 0.27)", "activations (<= 0.30)", "arena", "gathered for want of a rule"], rows)
table(f"Bytes that a rank sends in a step, P = {P}",
      ["model", "all-to-all", "formula", "all-reduce", "2 (P-1)/P of the weights", "others"], moved)
sys.exit(failed)
