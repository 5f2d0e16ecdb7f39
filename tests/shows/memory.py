"""Planned peak against a rank's growth seen by the system, the peers' model at S = 8,192, P = 2: within 32 MiB; and a step under a limit.

Growth is VmHWM above the resident set after loading (weights and optimiser state in place; the arena is not touched in advance).
`--limit-data` sets RLIMIT_DATA to what is held then and 32 MiB more before the first step."""
import os
import sys

from common import STRATEGIES, compile_model, json_lines, mib, run_golden, scratch, table
from peer_export import peer_model

model, goldens = peer_model()
rows, failed = [], False
for seq_len in (2048, 8192):
    for strategy in STRATEGIES:
        package = os.path.join(scratch("memory"), "package")
        compile_model(model, package, 2, seq_len, "--optimizer", "adamw", "--strategy", strategy)
        told = json_lines(run_golden(package, 2, goldens[seq_len], "--steps", 3, "--threads", 1, "--measure-memory", check=True))
        limited = run_golden(package, 2, goldens[seq_len], "--steps", 2, "--threads", 1, "--limit-data")
        for rank in (line for line in told if "rank" in line):
            planned, grown = rank["planned_arena_bytes"], rank["measured_growth_bytes"]
            failed |= abs(planned - grown) > 32 << 20 or rank["bytes_outside_arena"] != 0 or limited.code != 0
            rows.append([seq_len, strategy, rank["rank"], mib(planned), mib(grown), mib(grown - planned), rank["bytes_outside_arena"],
                         "survives" if limited.code == 0 else f"exit {limited.code}"])
        if limited.code != 0:
            print(limited.text[-1000:])
table("Planned and measured peak of a rank, MiB",
      ["S", "strategy", "rank", "planned", "grown", "difference", "tensor bytes outside", "with RLIMIT_DATA"], rows)
sys.exit(failed)
