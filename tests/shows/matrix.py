"""Worst gradient error against one device in float64: 8 zoo models x P = 1, 2, 3, 4, 8 x S = 64, 61 x both strategies, and special cases.

`--own` goes over models/ instead of the zoo; `--model NAME` (repeatable) over some models only. Exit 1 if any error exceeds 1e-5."""
import argparse
import os
import sys

from common import (MODELS, STRATEGIES, ZOO, ZOO_MODELS, compile_model, golden, need, pt2, python, run_golden, scratch, table,
                    worst_error)

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--own", action="store_true")
parser.add_argument("--model", action="append")
parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 3, 4, 8])
options = parser.parse_args()
failed = []


def error(name, model, file, ranks, seq_len, *more):
    package = os.path.join(scratch("matrix"), "package")
    compiled = compile_model(model, package, ranks, seq_len, "--strict", *more, check=False)
    if compiled.code != 0:
        failed.append((name, compiled.err.strip()))
        return f"compile exit {compiled.code}"
    ran = run_golden(package, ranks, file)
    worst = worst_error(ran)
    if ran.code != 0 or not isinstance(worst, float) or not worst <= 1e-5:
        failed.append((name, ran.text.strip()[-600:]))
    return worst


def matrix():
    if not options.own:
        need(ZOO, "the zoo")
    root = MODELS if options.own else ZOO
    models = options.model or (["gpt", "llama", "encoder", "window", "shifted", "padded", "frozen"] if options.own else ZOO_MODELS)
    header, rows = ["model", "S", "strategy"] + [f"P={p}" for p in options.ranks], []
    for model in models:
        for seq_len in (64, 61):
            for strategy in STRATEGIES:
                name = f"{model} S={seq_len} {strategy}"
                rows.append([model, seq_len, strategy] + [
                    error(f"{name} P={p}", pt2(model, root), golden(model, f"s{seq_len}", root), p, seq_len, "--strategy", strategy)
                    for p in options.ranks])
                print(*rows[-1], file=sys.stderr, flush=True)
    table("Worst gradient error against one device in float64, --strict", header, rows)


def special():
    rows = []

    def case(what, *args):
        rows.append([what, error(what, *args)])
    for strategy in STRATEGIES:
        more = ("--strategy", strategy)
        if os.path.isdir(ZOO):
            file = os.path.join(scratch("goldens"), "nanogpt.golden_s256.safetensors")
            if not os.path.exists(file):
                python(["-c", f"import make_zoo; make_zoo.golden('nanogpt', 256, {file!r})"], path=[ZOO])
            case(f"nanogpt, last length of its position table, S=256 P=3 {strategy}", pt2("nanogpt", ZOO), file, 3, 256, *more)
        case(f"gpt, last length of its position table, S=64 P=3 {strategy}", pt2("gpt"), golden("gpt", "s64"), 3, 64, *more)
        case(f"encoder, S=3 P=4 {strategy}", pt2("encoder"), golden("encoder", "s3"), 4, 3, *more)
        case(f"shifted, S=3 P=8 {strategy}", pt2("shifted"), golden("shifted", "s3"), 8, 3, *more)
        case(f"batched, batch 1, S=61 P=3 {strategy}", pt2("batched"), golden("batched", "s61"), 3, 61, "--batch", 1, *more)
        case(f"batched, batch 3, S=64 P=4 {strategy}", pt2("batched"), golden("batched", "s64"), 4, 64, "--batch", 3, *more)
        case(f"llama, shards without a valid label, S=61 P=4 {strategy}", pt2("llama"), golden("llama", "s61_few_labels"), 4, 61, *more)
        for model in ("gpt", "llama"):
            decomposed = os.path.join(MODELS, model, model + ".decomposed.pt2")
            case(f"{model}, decomposed form, S=61 P=2 {strategy}", decomposed, golden(model, "s61"), 2, 61, *more)
    table("Special cases", ["case", "worst error"], rows)


matrix()
if not options.model:
    special()
for name, why in failed:
    print(f"\nFAILED {name}\n{why}")
print(f"\n{len(failed)} above 1e-5 or not run" if failed else "\nall within 1e-5")
sys.exit(1 if failed else 0)
