"""Some 45 architectures of transformers and 190 small models of one op, module or loss each, against float64 on one device.

wide.py [architectures|ops] [NAME...]: P = 2 and 3, both strategies, S = 61 (64 where an export is fixed to it). Prints what is refused, with
the reason, what exceeds 1e-5, and a summary. Where the exact gradient is 0 (a key's bias, a bias before a batch norm), rounding is all that
is compared: eager float32 exceeds it there too."""
import os
import sys

from common import ZOO, compile_model, need, python, run_golden, scratch, table, worst_error

need(ZOO, "the zoo with its exporter")
kinds = [k for k in sys.argv[1:] if k in ("architectures", "ops")] or ["architectures", "ops"]
names = [a for a in sys.argv[1:] if a not in ("architectures", "ops")]
HERE = os.path.dirname(os.path.abspath(__file__))
CASES = [(2, "ulysses"), (3, "allgather-kv")]


def one(folder, name, ranks, strategy):
    """The worst error, or the compiler's or the run's first words."""
    model, package = os.path.join(folder, name, name + ".pt2"), os.path.join(folder, name, "package")
    for seq in (61, 64):
        ran = compile_model(model, package, ranks, seq, "--strategy", strategy, check=False)
        if ran.code != 3 or "which the export fixes to" not in ran.err:
            break
    if ran.code != 0:
        return f"compile {ran.code}: " + " ".join(ran.err.split())[:150]
    ran = run_golden(package, ranks, os.path.join(folder, name, f"s{seq}.safetensors"))
    worst = worst_error(ran)
    return worst if isinstance(worst, float) else f"run {ran.code}: " + " ".join(ran.err.split())[:150]


rows, failed = [], False
for kind in kinds:
    folder = scratch("wide/" + kind)
    said = python([os.path.join(HERE, "wide_export.py"), kind, folder, *names], path=[ZOO]).splitlines()
    odd = [[line[3:].split(":")[0], "export", line.split(":", 1)[1].strip()] for line in said if line.startswith("no ")]
    passed, beyond, refused, worst = 0, 0, len(odd), 0.0
    for name in (line[5:] for line in said if line.startswith("made ")):
        results = {case: one(folder, name, *case) for case in CASES}
        words = [r for r in results.values() if isinstance(r, str)]
        errors = [r for r in results.values() if not isinstance(r, str)]
        if words:
            refused += 1
            failed |= any(not w.startswith("compile 4") for w in words)
        elif max(errors) <= 1e-5:
            passed += 1
            worst = max(worst, *errors)
        else:
            beyond += 1
            failed |= not max(errors) <= 1e-3
        odd += [[name, f"P = {p}, {s}", r if isinstance(r, str) else f"{r:.1e}"] for (p, s), r in results.items() if isinstance(r, str) or not r <= 1e-5]
    rows.append([kind, passed + beyond + refused, passed, f"{worst:.1e}", beyond, refused])
    if odd:
        table(f"{kind}: not within 1e-5", ["model", "run", "what"], odd)
table("Against float64", ["what", "models", "within 1e-5", "worst of them", "beyond", "not exported, or refused"], rows)
sys.exit(failed)
