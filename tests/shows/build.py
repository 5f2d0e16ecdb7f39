"""Seconds of a clean build without ccache, and of an edit in passes/ until its tests have run. Takes some minutes."""
import glob
import os
import re
import shutil
import subprocess
import sys
import time

from common import ROOT, scratch, table


def timed(command, **more):
    start = time.monotonic()
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **more)
    if done.returncode:
        print(done.stdout[-3000:])
        sys.exit(1)
    return time.monotonic() - start


# A copy of the tracked files, so that the edit touches nobody's checkout.
clone = os.path.join(scratch("build"), "clone")
shutil.rmtree(clone, ignore_errors=True)
subprocess.run(["git", "clone", "-q", ROOT, clone], check=True)
build = os.path.join(clone, "build")
os.makedirs(build)
cache = open(os.path.join(os.environ.get("AUTOSPC_BUILD", os.path.join(ROOT, "build")), "CMakeCache.txt")).read()
torch = re.search(r"^AUTOSPC_TORCH:PATH=(.*)$", cache, re.M).group(1)
env = {**os.environ, "CCACHE_DISABLE": "1"}
configure = timed(["cmake", "-S", clone, "-B", build, "-G", "Ninja", f"-DAUTOSPC_TORCH={torch}"])
clean = timed(["ninja", "-C", build], env=env)

rows = [["clean build, without ccache", f"{configure + clean:.0f}"]]
for folder in ("ir", "canonical", "partition", "memory"):
    source = max(glob.glob(os.path.join(clone, "passes", folder, "*.cc")), key=os.path.getsize)
    with open(source, "a") as f:
        f.write("\n// an edit\n")
    seconds = timed(["ninja", "-C", build, f"test_{folder}"], env=env)
    seconds += timed([os.path.join(build, "bin", f"test_{folder}")])
    rows.append([f"edit of {os.path.relpath(source, clone)}, rebuilt, test_{folder} run", f"{seconds:.1f}"])
log = [line.split("\t") for line in open(os.path.join(build, ".ninja_log")).read().splitlines()[1:]]
slow = sorted({(int(end) - int(start), name) for start, end, _, name, _ in log}, reverse=True)[:10]
table("Build", ["what", "s"], rows)
table("Slowest files of the clean build", ["file", "s"], [[name, f"{ms / 1000:.0f}"] for ms, name in slow])
shutil.rmtree(clone)
