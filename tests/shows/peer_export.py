"""Exports the peers' model with its goldens, once; the shows `bench` and `memory` run it. (5 GB of Python packages the first time.)"""
import os
import subprocess
import sys

from common import MODELS, PEERS, need, scratch, torch_python

LENGTHS = (2048, 8192)


def peer_model():
    """The .pt2 and a function from length to golden file."""
    need(PEERS, "the peers' folder")
    folder = scratch("peer")
    goldens = {s: os.path.join(folder, f"peer.golden_s{s}.safetensors") for s in LENGTHS}
    if not all(os.path.exists(g) for g in goldens.values()):
        print("exporting the peers' model and computing its gradients in float64 (two minutes)", file=sys.stderr)
        here = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peer")
        subprocess.run([torch_python(), os.path.join(MODELS, "export.py"), "peer_model:peer", "-o", folder, "--batch", "1", "--seq",
                        *map(str, LENGTHS), "--longest", "65536"], cwd=here, check=True, env={**os.environ, "PYTHONPATH": PEERS,
                                                                                            "PYTHONDONTWRITEBYTECODE": "1"})
    return os.path.join(folder, "peer.pt2"), goldens


if __name__ == "__main__":
    print(peer_model())
