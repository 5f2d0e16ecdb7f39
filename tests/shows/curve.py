"""Time against memory: twenty budgets on the peers' model at S = 8,192 and on hf_llama at S = 4,096, 2 ranks, beside others' rules.

Planned peak, estimated seconds and measured seconds of a step (median of those after the first), AdamW, one thread a rank, with the
rules none, full, layers and autosp under the same planner. Budgets lie between the lowest that plans and what is planned without one,
evenly by ratio. `--model` and `--seq-len` (2048 or 8192 for the peers' model) choose; `--measure N` is how many of the twenty run (six of
the peers' model, so that the show ends within ten minutes; 0: none, nor the rules); `--write` puts table and pictures into docs/curve.
Exit 1 unless the peak is monotone in the budget and never above it, more memory is never slower, at each rule's peak the plan is as
fast as the rule, and no rank grows by more than its arena and 32 MiB."""
import argparse
import json
import os
import statistics
import sys

import curve_svg
from common import ROOT, ZOO, compile_model, inspect, json_lines, lowest_budget, mib, need, pt2, run, run_golden, scratch, table, zoo_golden
from peer_export import LENGTHS, peer_model

RANKS, BUDGETS, STEPS, RULES = 2, 20, 3, ["none", "full", "layers", "autosp"]
DOCS = os.path.join(ROOT, "docs", "curve")
parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--model", choices=["peer", "hf_llama"], action="append")
parser.add_argument("--seq-len", type=int)
parser.add_argument("--measure", type=int)
parser.add_argument("--write", action="store_true")
options = parser.parse_args()
wrong = []


def plan(model, seq_len, *more):
    told = run("autospc", "plan", model, "--ranks", RANKS, "--seq-len", seq_len, "--optimizer", "adamw", "--json", *more).out
    row = json.loads(told)["rows"][0]
    chosen = next(point for point in row["curve"] if point["chosen"])
    return {"peak": row["memory"]["total"], "arena": row["memory"]["arena"], "seconds": row["seconds"], "label": chosen["label"]}


def measure(model, golden, seq_len, point, *more):
    """Adds the seconds of a step and what a rank grew by."""
    package = os.path.join(scratch("curve"), "package")
    compile_model(model, package, RANKS, seq_len, "--optimizer", "adamw", *more)
    compiled = inspect(package)["memory"]["total"]
    if compiled != point["peak"]:
        wrong.append(f"{' '.join(map(str, more))}: plan says {point['peak']} bytes, compile {compiled}")
    told = json_lines(run_golden(package, RANKS, golden, "--steps", STEPS, "--threads", 1, "--measure-memory", check=True))
    point["measured"] = statistics.median([line["seconds"] for line in told if "step" in line][1:])
    point["grown"] = max(line["measured_growth_bytes"] for line in told if "rank" in line)
    if point["grown"] > point["arena"] + (32 << 20):
        wrong.append(f"{' '.join(map(str, more))}: a rank grew by {point['grown']} bytes, its arena has {point['arena']}")


def spread(count, of):
    """`count` of the indices below `of`, the first and the last among them."""
    return {round(i * (of - 1) / max(count - 1, 1)) for i in range(min(count, of))}


def curve(name, model, golden, seq_len, measured):
    lowest = lowest_budget(model, os.path.join(scratch("curve"), "package"), RANKS, seq_len, "--optimizer", "adamw")
    free = plan(model, seq_len)
    load = os.getloadavg()[0]
    ours, rules = [], []
    for i in range(BUDGETS):
        budget = round(lowest * (free["peak"] / lowest) ** (i / (BUDGETS - 1)))
        point = {"budget": budget, **plan(model, seq_len, "--memory-budget", budget)}
        if i in spread(measured, BUDGETS):
            measure(model, golden, seq_len, point, "--memory-budget", budget)
        ours.append(point)
        print(name, mib(budget), mib(point["peak"]), f"{point['seconds']:.3f}", point.get("measured", ""), file=sys.stderr, flush=True)
    for rule in RULES:
        point = {"rule": rule, **plan(model, seq_len, "--recompute", rule)}
        if measured:
            measure(model, golden, seq_len, point, "--recompute", rule)
        point["ours"] = plan(model, seq_len, "--memory-budget", point["peak"])
        rules.append(point)
        print(name, rule, mib(point["peak"]), f"{point['seconds']:.3f}", point.get("measured", ""), file=sys.stderr, flush=True)
    check(name, ours, rules)
    return {"name": name, "seq_len": seq_len, "ours": ours, "rules": rules, "free": free, "load": load, "cores": os.cpu_count()}


def check(name, ours, rules):
    for p in ours:
        if p["peak"] > p["budget"]:
            wrong.append(f"{name}: planned {p['peak']} bytes, budget {p['budget']}")
    for less, more in zip(ours, ours[1:]):
        if less["peak"] > more["peak"]:
            wrong.append(f"{name}: {less['peak']} bytes planned for {less['budget']}, {more['peak']} for {more['budget']}")
        if less["seconds"] < more["seconds"]:
            wrong.append(f"{name}: {less['seconds']} s estimated for {less['budget']} bytes, {more['seconds']} s for {more['budget']}")
    for r in rules:
        if r["ours"]["peak"] > r["peak"] or r["ours"]["seconds"] > r["seconds"]:
            wrong.append(f"{name}: {r['rule']} takes {r['seconds']} s in {r['peak']} bytes, ours {r['ours']['seconds']} s in {r['ours']['peak']}")


def cells(result):
    """The two tables: header and rows."""
    def told(p):
        return [f"{p['measured']:.2f}" if "measured" in p else "", mib(p["grown"]) if "grown" in p else ""]
    ours = [[mib(p["budget"]), mib(p["peak"]), f"{p['seconds']:.3f}", *told(p), mib(p["arena"]), p["label"]] for p in result["ours"]]
    rules = [[r["rule"], mib(r["peak"]), f"{r['seconds']:.3f}", *told(r), f"{r['ours']['seconds']:.3f}", mib(r["ours"]["peak"])]
             for r in result["rules"]]
    return ((["budget", "planned", "s, estimated", "s, measured", "grown", "arena", "plan"], ours),
            (["rule", "planned", "s, estimated", "s, measured", "grown", "ours at its peak: s, estimated", "planned"], rules))


def title(result):
    return f"{result['name']}, S = {result['seq_len']:,}, {RANKS} ranks, AdamW"


def write(results):
    text = ["# Time against memory", "", "Twenty budgets between the lowest that plans and what is planned without one, and the rules of others under "
            "the same planner. Memory is of one rank, in MiB:", "`planned` with parameters and optimizer states, `arena` without them, `grown` what "
            "the system saw a rank grow by over its loaded state.", "Seconds are of a step of two ranks of one thread: as estimated, and the median "
            "of those measured after the first.", "", "Made by `./dev shows curve --write`.", ""]
    for result in results:
        text += [f"## {title(result)}", ""]
        if any("measured" in p for p in result["ours"]):
            busy = result["load"] > 0.5 * result["cores"]
            text += [f"Load of the machine when this began: {result['load']:.1f} on {result['cores']} cores" +
                     (": others were at work, so the measured seconds are rough." if busy else "."), ""]
        text += [f"![Seconds of a step by planned peak]({result['name']}.svg)", ""]
        for header, rows in cells(result):
            text += ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)] + ["| " + " | ".join(row) + " |" for row in rows] + [""]
        with open(os.path.join(DOCS, f"{result['name']}.svg"), "w") as f:
            f.write(curve_svg.plot(title(result), result["ours"], result["rules"]))
    with open(os.path.join(DOCS, "README.md"), "w") as f:
        f.write("\n".join(text).rstrip() + "\n")


def main():
    for name in options.model or ["hf_llama", "peer"]:
        if name == "peer":
            model, goldens = peer_model()
            seq_len = options.seq_len or LENGTHS[-1]
            golden, measured = goldens[seq_len], 6
        else:
            need(ZOO, "the zoo")
            seq_len = options.seq_len or 4096
            model, golden, measured = pt2("hf_llama", ZOO), zoo_golden("hf_llama", seq_len), BUDGETS
        result = curve(name, model, golden, seq_len, measured if options.measure is None else options.measure)
        for header, rows in cells(result):
            table(f"{title(result)}; memory of a rank in MiB", header, rows)
        with open(os.path.join(scratch("curve"), f"{name}.json"), "w") as f:
            json.dump(result, f)
    if options.write:
        os.makedirs(DOCS, exist_ok=True)
        kept = [os.path.join(scratch("curve"), f"{name}.json") for name in ("peer", "hf_llama")]  # of earlier runs too
        write([json.load(open(file)) for file in kept if os.path.exists(file)])
    print("\n" + "\n".join(["FAILED " + w for w in wrong] or ["monotone, within every budget, and at each rule's peak as fast as the rule"]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
