"""train_eager.py FOLDER FILE...: the export of models/zoo.py's Bytes without and with dropout, and the losses of eager PyTorch on the
batches that autosp-run takes from the files. Run by train.py under a Python with PyTorch.

The order of samples is written here once more, from what runtime/data says of it: a Feistel network of six rounds over SplitMix64."""
import json
import math
import os
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
sys.path.insert(0, os.path.join(ROOT, "models"))
import torch  # noqa: E402

import export  # noqa: E402
import zoo  # noqa: E402

STEPS, BATCH, SEQ, LR, MIN_LR, WARMUP, CLIP, SEED, DROPOUT = 200, 4, 256, 6e-4, 6e-5, 20, 1.0, 5, 0.1
WORD = (1 << 64) - 1


def mix(x):
    x = (x + 0x9E3779B97F4A7C15) & WORD
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & WORD
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & WORD
    return x ^ (x >> 31)


def permuted(n, seed, i):
    half = max(1, ((n - 1).bit_length() + 1) // 2)
    mask, key = (1 << half) - 1, mix(seed)
    while True:
        left, right = i >> half, i & mask
        for turn in range(6):
            left, right = right, left ^ (mix(key ^ mix((right * 6 + turn) & WORD)) & mask)
        i = left << half | right
        if i < n:
            return i


def rows(files):
    """The stretches of SEQ + 1 bytes, file by file."""
    out = []
    for file in files:
        with open(file, "rb") as f:
            data = f.read()
        out += [data[i * SEQ:(i + 1) * SEQ + 1] for i in range((len(data) - 1) // SEQ)]
    return out


def batch(samples, step):
    taken = []
    for k in range(step * BATCH, (step + 1) * BATCH):
        epoch, sample = divmod(k, len(samples))
        taken.append(list(samples[permuted(len(samples), mix(SEED ^ mix(epoch)), sample)]))
    t = torch.tensor(taken)
    return t[:, :-1].contiguous(), t[:, 1:].contiguous()


def learning_rate(step):
    if step < WARMUP:
        return LR * step / WARMUP
    return MIN_LR + (LR - MIN_LR) * 0.5 * (1 + math.cos(math.pi * (step - WARMUP) / (STEPS - WARMUP)))


def make(dropout):
    torch.manual_seed(1)
    model = zoo.Bytes(dropout)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.dim() > 1:
                p.normal_(0, 0.02)
    return model.train()


def main():
    folder, files = sys.argv[1], sys.argv[2:]
    torch.set_num_threads(2)
    for name, dropout in (("plain", 0.0), ("dropout", DROPOUT)):
        model = make(dropout)
        program = export.export_program(model, export.make_inputs(model, "bytes", BATCH, SEQ), SEQ, 512)
        export.save_program(program, os.path.join(folder, name + ".pt2"), ROOT)
    samples, losses = rows(files), {}
    for dtype in (torch.float32, torch.float64):
        model = make(0.0).to(dtype)
        parameters = list(model.parameters())
        optimizer = torch.optim.AdamW(parameters, lr=LR)
        losses[str(dtype)[6:]] = curve = []
        for step in range(STEPS):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate(step + 1)
            optimizer.zero_grad()
            loss = model(*batch(samples, step))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, CLIP)
            optimizer.step()
            curve.append(loss.item())
    with open(os.path.join(folder, "eager.json"), "w") as f:
        json.dump({"losses": losses, "samples": len(samples)}, f)


if __name__ == "__main__":
    main()
