"""steps.py: the losses and gradient norms of 20 optimiser steps in eager PyTorch, float64, on one batch.

For each model NAME of the list below writes models/NAME/NAME.steps_s61.safetensors: in.* (the batch of the golden of length 61),
losses [20] (before each step) and grad_norms [20] (before clipping), float64; the header tells optimizer, lr, clip and weight_decay.
Prints how far eager float32 is from it: what a right float32 trainer can be held to. `python models/steps.py [--zoo FOLDER]` does the
same for nanogpt and hf_llama of another folder that make_zoo.py filled, into models/steps/.
"""
import argparse
import importlib.util
import os

import torch
from safetensors.torch import load_file, save_file

import export
import zoo

STEPS, LR, CLIP = 20, 1e-2, 1.0


def train(module, inputs, dtype):
    module = module.to(dtype)
    inputs = {k: v.to(dtype) if v.is_floating_point() else v for k, v in inputs.items()}
    parameters = [p for p in module.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=LR)
    losses, norms = [], []
    for _ in range(STEPS):
        optimizer.zero_grad()
        if dtype == torch.float64:
            with export.AllFloat64():
                loss = module(**inputs)
                loss.backward()
        else:
            loss = module(**inputs)
            loss.backward()
        losses.append(loss.item())
        norms.append(torch.nn.utils.clip_grad_norm_(parameters, CLIP).item())
        optimizer.step()
    return torch.tensor(losses, dtype=torch.float64), torch.tensor(norms, dtype=torch.float64)


def write(name, make, inputs, path):
    losses, norms = train(make(), inputs, torch.float64)
    narrow, _ = train(make(), inputs, torch.float32)
    metadata = {"optimizer": "adamw", "lr": str(LR), "clip": str(CLIP), "weight_decay": "0.01", "torch": torch.__version__}
    save_file({**{"in." + k: v for k, v in inputs.items()}, "losses": losses, "grad_norms": norms}, path, metadata=metadata)
    os.chmod(path, 0o644)
    print(f"{name}: loss {losses[0]:.6f} -> {losses[-1]:.6f}, norm {norms[0]:.4f} -> {norms[-1]:.4f}; eager float32 is within "
          f"{((narrow - losses).abs() / losses.abs()).max():.1e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--zoo", metavar="FOLDER")
    a = parser.parse_args()
    here = os.path.dirname(os.path.abspath(__file__))
    if not a.zoo:
        for name in ("gpt", "llama", "frozen"):
            inputs = export.make_inputs(zoo.make_model(name), name, 2, 61)
            write(name, lambda: zoo.make_model(name), inputs, os.path.join(here, name, name + ".steps_s61.safetensors"))
        return
    spec = importlib.util.spec_from_file_location("make_zoo", os.path.join(a.zoo, "make_zoo.py"))
    other = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(other)
    os.makedirs(os.path.join(here, "steps"), exist_ok=True)
    for name in ("nanogpt", "hf_llama"):
        tensors = load_file(os.path.join(a.zoo, name, name + ".golden_s61.safetensors"))
        inputs = {k[3:]: v for k, v in tensors.items() if k.startswith("in.")}
        write(name, lambda: other.make_model(name), inputs, os.path.join(here, "steps", name + ".steps_s61.safetensors"))


if __name__ == "__main__":
    main()
