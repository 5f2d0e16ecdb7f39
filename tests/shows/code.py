"""Lines of code by folder (all lines, and those that are neither blank nor a comment), and the sizes of the programs."""
import os
import subprocess

from common import BUILD, ROOT, mib, table

SOURCE = (".cc", ".h", ".inc", ".fbs", ".py", ".cmake", "CMakeLists.txt", "dev")
files = [f for f in subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
         if f.endswith(SOURCE)]


def folder_of(file):
    """Two levels deep, but tests and models whole."""
    parts = os.path.dirname(file).split("/")
    return "/".join(parts[:1 if parts[0] in ("tests", "models") else 2]) or "."


rows, totals = [], [0, 0, 0]
for folder in sorted({folder_of(f) for f in files}):
    here = [f for f in files if folder_of(f) == folder]
    lines = [line.strip() for f in here for line in open(os.path.join(ROOT, f), errors="replace")]
    code = [line for line in lines if line and not line.startswith(("//", "#", "*"))]
    rows.append([folder, len(here), len(lines), len(code)])
    totals = [a + b for a, b in zip(totals, rows[-1][1:])]
table("Lines by folder", ["folder", "files", "lines", "code"], rows + [["total", *totals]])

rows = []
for program in ("autospc", "autospc-opt", "autosp-run"):
    path = os.path.join(BUILD, "bin", program)
    if os.path.exists(path):
        dynamic = subprocess.run(["readelf", "-d", path], capture_output=True, text=True).stdout
        needed = [line.split("[")[1].rstrip("]") for line in dynamic.splitlines() if "(NEEDED)" in line]
        rows.append([program, mib(os.path.getsize(path)), ", ".join(needed)])
table("Programs", ["program", "MiB", "links"], rows)
