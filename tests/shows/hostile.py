"""Hostile files: the smallest .pt2, a package and data cut off at every length and with 10,000 bits turned, through the readers in process."""
import json
import os
import struct
import sys

from common import BUILD, MODELS, compile_model, run, scratch, table

# Of one opening, beside twice the file: LibTorch's table of ops, and the tree of a .pt2's JSON, about 3 bytes a byte of text.
CONSTANT = 8 << 20
FLIPS = 10000

run("/usr/bin/ninja", "-C", BUILD, "hostile")
exports = [os.path.join(folder, f) for folder, _, files in os.walk(MODELS) for f in files if f.endswith(".pt2")]
smallest = min(exports, key=lambda f: (os.path.getsize(f), f))
folder = scratch("hostile")
package = os.path.join(folder, "package")
compile_model(os.path.join(MODELS, "shifted", "shifted.pt2"), package, 2, 64)
tokens = os.path.join(folder, "tokens.bin")
with open(tokens, "wb") as f:
    f.write(struct.pack("<3i", 20240520, 1, 2000).ljust(1024, b"\0") + bytes(range(250)) * 16)
goldens = [os.path.join(d, f) for d, _, files in os.walk(MODELS) for f in files if f.endswith(".safetensors") and ".golden_" in f]
golden = min(goldens, key=lambda f: (os.path.getsize(f), f))

rows, failed = [], False
for kind, path in [("pt2", smallest), ("package", package), ("resealed", package), ("safetensors", golden), ("tokens", tokens)]:
    ran = run(os.path.join(BUILD, "bin", "hostile"), kind, path, FLIPS, check=False, limit=7200)
    failed |= ran.code != 0
    if ran.code != 0:
        print(f"{kind}: ended with {ran.code}\n{ran.text[-2000:]}")
    for line in ran.out.splitlines():
        o = json.loads(line)
        bound = 2 * o["file_bytes"] + CONSTANT
        failed |= o["peak_bytes"] > bound or o["slowest_ms"] > 5000
        rows.append([f"{kind} {os.path.basename(path)}", o["what"], o["file_bytes"], o["tries"], o["tries"] - o["accepted"], o["accepted"],
                     f"{o['peak_bytes'] / 2**20:.2f} MiB", f"{bound / 2**20:.2f} MiB", f"{o['slowest_ms']:.1f} ms"])
table(f"Hostile files: crashes {'and hangs: see above' if failed else '0, hangs 0'}",
      ["file", "how", "bytes", "opened", "refused", "accepted", "most memory", "bound", "slowest"], rows)
sys.exit(failed)
