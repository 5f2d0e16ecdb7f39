"""run.py BUILD SECONDS NAME...: runs each fuzzer for so long, one after the other, and prints a line about each.

New inputs go to BUILD/found/NAME, what broke a promise to BUILD/crashes/NAME. Ends with 1 if anything was broken."""
import os
import re
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
DICTIONARIES = {"ir": "ir", "safetensors": "json", "tokens": "json", "run_flags": "run_flags", "compile_flags": "compile_flags"}
LIBTORCH = ("ir", "pt2", "executor", "run_flags", "compile_flags")  # its own singletons are never freed


def run(build, name, seconds):
    found, crashes = os.path.join(build, "found", name), os.path.join(build, "crashes", name)
    os.makedirs(found, exist_ok=True)
    os.makedirs(crashes, exist_ok=True)
    before = set(os.listdir(crashes))
    command = [os.path.join(build, "bin", "fuzz_" + name), f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=3000",
               "-malloc_limit_mb=1000", "-print_final_stats=1", "-close_fd_mask=1", f"-max_len={131072 if name == 'pt2' else 32768}", f"-artifact_prefix={crashes}/", found]
    for kind in ("corpus", "regressions"):
        folder = os.path.join(HERE, kind, name)
        if os.path.isdir(folder):
            command.append(folder)
    if name in DICTIONARIES:
        command.insert(1, "-dict=" + os.path.join(HERE, "dictionaries", DICTIONARIES[name] + ".dict"))
    environment = dict(os.environ, OMP_NUM_THREADS="1", ASAN_OPTIONS=f"detect_leaks={int(name not in LIBTORCH)}:allocator_may_return_null=1",
                       UBSAN_OPTIONS="print_stacktrace=1")
    log = os.path.join(build, name + ".log")
    with open(log, "w", encoding="utf-8", errors="replace") as out:
        status = subprocess.run(["nice", "-n", "10"] + command, stdout=out, stderr=out, env=environment, check=False).returncode
    with open(log, encoding="utf-8", errors="replace") as text:
        output = text.read()
    runs = re.findall(r"number_of_executed_units: *([0-9]+)", output) or re.findall(r"^#([0-9]+)", output, re.M) or ["0"]
    coverage = re.findall(r"cov: ([0-9]+)", output) or ["0"]
    rss = re.findall(r"peak_rss_mb: *([0-9]+)", output) or ["?"]
    new = sorted(set(os.listdir(crashes)) - before)
    print(f"{name:<14} {int(runs[-1]):>10} {int(coverage[-1]):>10} {len(os.listdir(found)):>8} {rss[-1]:>9} {len(new):>8}", flush=True)
    for crash in new:
        print(f"    {os.path.join(crashes, crash)}; what happened is in {log}")
    if status != 0 and not new:
        print(f"    ended with {status}: see {log}")
    return status == 0


def main():
    build, seconds, names = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
    print(f"{'fuzzer':<14} {'inputs':>10} {'edges':>10} {'corpus':>8} {'peak MiB':>9} {'broken':>8}")
    return 0 if all([run(build, name, seconds) for name in names]) else 1


if __name__ == "__main__":
    sys.exit(main())
