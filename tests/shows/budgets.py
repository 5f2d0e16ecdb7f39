"""Gradients under a memory budget: 8 zoo models x P = 1, 2, 4 x lowest, middle and no budget x tiling on and off, and dp x sp = 2 x 2.

At S = 61 and at 256 (128 where the export ends there; the goldens are computed the first time). The lowest budget is what exit 5 says
that a rank needs at the least, the middle one lies halfway to what is planned without a budget. Where the two ends are equal (short
sequences, where gradients make the peak), the one budget is run. Exit 1 if an error exceeds 1e-5, or a plan its budget, or a program at
the lowest budget that exit 5 told does not compile."""
import argparse
import os
import sys

from common import ZOO, ZOO_MODELS, compile_model, inspect, lowest_budget, mib, need, pt2, run, run_golden, scratch, table, worst_error, zoo_golden

LONGEST = {"llamastyle": 128}
parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", action="append", choices=ZOO_MODELS)
parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2, 4])
parser.add_argument("--seq-len", type=int, nargs="+", default=[61, 256])
parser.add_argument("--strategy", default="ulysses")
parser.add_argument("--no-mesh", action="store_true")
options = parser.parse_args()
rows, failed, over = [], [], []
worst_of_all = 0.0


def case(model, seq_len, counts, mesh, tile):
    """Runs one program under its three budgets."""
    global worst_of_all
    package = os.path.join(scratch("budgets"), "package")
    processes = counts or 4
    more = ["--strict", "--strategy", options.strategy, "--tile", tile, *mesh]
    compile_model(pt2(model, ZOO), package, counts, seq_len, *more)
    unlimited = inspect(package)["memory"]["total"]
    lowest = lowest_budget(pt2(model, ZOO), package, counts, seq_len, *more)
    budgets = [("lowest", lowest), ("middle", (lowest + unlimited) // 2), ("none", None)]
    if lowest >= unlimited:
        budgets = [("lowest = none", lowest)]
    for name, budget in budgets:
        given = [] if budget is None else ["--memory-budget", budget]
        compiled = compile_model(pt2(model, ZOO), package, counts, seq_len, *more, *given, check=False)
        row = [model, mesh[-1] if mesh else counts, seq_len, tile, name, "" if budget is None else mib(budget)]
        if compiled.code != 0:
            failed.append((compiled.command, compiled.text))
            rows.append(row + ["", f"compile exit {compiled.code}"])
            continue
        planned = inspect(package)["memory"]["total"]
        ran = run_golden(package, processes, zoo_golden(model, seq_len), "--threads", 1)
        worst = worst_error(ran)
        if budget is not None and planned > budget:
            over.append((compiled.command, f"planned {planned} bytes, budget {budget}"))
        if ran.code != 0 or not isinstance(worst, float) or not worst <= 1e-5:
            failed.append((compiled.command, ran.text))
        if isinstance(worst, float):
            worst_of_all = max(worst_of_all, worst)
        rows.append(row + [mib(planned), worst])
        print(*rows[-1], file=sys.stderr, flush=True)


need(ZOO, "the zoo")
meshes = [(p, []) for p in options.ranks]
knows_mesh = "--mesh" in run("autospc", "compile", "--help").out
if knows_mesh and not options.no_mesh:
    meshes.append((None, ["--mesh", "dp=2,sp=2"]))  # every model of the zoo has a batch of two
for model in options.model or ZOO_MODELS:
    for seq_len in sorted({min(s, LONGEST.get(model, s)) for s in options.seq_len}):
        for counts, mesh in meshes:
            for tile in ("auto", "off"):
                case(model, seq_len, counts, mesh, tile)
table(f"Under a memory budget, {options.strategy}: planned peak of a rank in MiB, worst gradient error against one device in float64",
      ["model", "P", "S", "tile", "budget", "MiB", "planned", "worst error"], rows)
if not knows_mesh:
    print("\nskipped: dp x sp (autospc compile has no --mesh)")
for command, why in failed + over:
    print(f"\nFAILED {' '.join(command)}\n{why.strip()[-600:]}")
print(f"\nworst error of all {worst_of_all:.1e}; {len(rows)} programs; {len(failed)} above 1e-5 or not run; {len(over)} planned above their budget")
sys.exit(1 if failed or over else 0)
