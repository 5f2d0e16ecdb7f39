"""Checkpoints: saved on 4 ranks and resumed on 1, 2, 8; SmolLM2 saved and loaded by transformers; full disks; kill -9 at any time.

`checkpoints.py resume|smollm2|disk|kill` for one of them. Parameters must be the same bits; losses of resumed steps within 1e-5 of
the uninterrupted run's; the loss of transformers on what was saved within 1e-5 of ours."""
import glob
import json
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import time

from common import BUILD, MODELS, ZOO, compile_model, golden, json_lines, python, pt2, run, scratch, table

PARTS = sys.argv[1:] or ["resume", "smollm2", "disk", "kill"]
ADAMW = ["--optimizer", "adamw", "--clip-norm", 1]
failed = False


def train(package, ranks, file, steps, *more, check=True, lr=0.01):
    return run("autosp-run", "--nproc-per-node", ranks, package, "--golden", file, "--steps", steps, "--lr", lr, "--json", *more, check=check)


def tensors(folder):
    """The bytes of every tensor in a folder's model files, by name."""
    found = {}
    for path in glob.glob(os.path.join(folder, "model*.safetensors")):
        with open(path, "rb") as f:
            header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
            data = f.read()
        for name, t in header.items():
            if name != "__metadata__":
                found[name] = (t["dtype"], tuple(t["shape"]), data[t["data_offsets"][0]:t["data_offsets"][1]])
    return found


def newest(folder):
    return max((f for f in os.listdir(folder) if f.startswith("step-")), default=None)


def resume():
    global failed
    rows = []
    cases = [("llama", MODELS), ("gpt", MODELS)] + ([("hf_llama", ZOO)] if os.path.isdir(ZOO) else [])
    for model, root in cases:
        batch = golden(model, "s61", root)
        for stage in (0, 1, 2):
            out = scratch("checkpoints/resume", empty=True)
            package, checkpoints = os.path.join(out, "package"), os.path.join(out, "c")
            compile_model(pt2(model, root), package, 4, 61, *ADAMW, "--zero", stage)
            whole = json_lines(train(package, 4, batch, 8, "--checkpoint", checkpoints, "--checkpoint-every", 4))
            four = os.path.join(checkpoints, "step-00000004")
            for ranks, other in ((1, 0), (2, 1), (8, 2), (8, 0)):
                compile_model(pt2(model, root), package, ranks, 61, *ADAMW, "--zero", other)
                saved = os.path.join(out, f"saved{ranks}{other}")
                train(package, ranks, batch, 4, "--resume", four, "--save-weights", saved)
                equal = tensors(saved) == tensors(four)
                rest = json_lines(train(package, ranks, batch, 8, "--resume", four))
                worst = max(abs(a["loss"] - b["loss"]) / abs(b["loss"]) for a, b in zip(rest, whole[4:], strict=True))
                failed |= not equal or not worst <= 1e-5
                rows.append([model, f"4, zero {stage}", f"{ranks}, zero {other}", "yes" if equal else "NO", len(rest), worst])
    table("Saved after step 4 of 8 on 4 ranks", ["model", "saved on", "resumed on", "bit-equal", "more steps", "worst loss error"], rows)


def smollm2():
    global failed
    if not os.path.isdir(ZOO):
        return print("skipped: the zoo is not here")
    out = os.path.join(scratch("smollm2"), "model")
    batch = os.path.join(out, "golden_s509.safetensors")
    if not os.path.exists(batch):
        print(python(os.path.join(ZOO, "smollm2.py"), out).strip().splitlines()[-1])
    hf, mine = os.path.join(out, "hf"), scratch("checkpoints/smollm2", empty=True)
    package, plain, saved = (os.path.join(mine, n) for n in ("package", "plain", "saved"))
    compile_model(os.path.join(out, "smollm2.pt2"), package, 2, 509, *ADAMW, "--tie-embeddings")
    tuned = json_lines(train(package, 2, batch, 3, "--weights", hf, "--save-weights", saved, "--max-shard-size", "200MB", lr=2e-5))
    compile_model(os.path.join(out, "smollm2.pt2"), plain, 1, 509, "--tie-embeddings")
    ours = run("autosp-run", plain, "--golden", batch, "--weights", saved, "--json", check=False)
    loss = float(re.search(r'"loss": ([-+.e\d]+)', ours.out).group(1))
    theirs = float(python(["-c", """
import sys, torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from transformers.utils import logging
logging.set_verbosity_warning()
model, info = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=torch.float32, output_loading_info=True)
assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"], info
batch = load_file(sys.argv[2])
with torch.no_grad():
    print("loss", model.train()(input_ids=batch["in.input_ids"], labels=batch["in.labels"], use_cache=False).loss.item())
"""], saved, batch).split()[-1])
    error = abs(theirs - loss) / loss
    failed |= not error <= 1e-5 or not loss < tuned[0]["loss"]
    table("SmolLM2-135M, 3 steps on 2 ranks, S = 509, saved and loaded by transformers",
          ["files", "loss before", "loss after, autosp-run", "loss after, transformers", "error"],
          [[len(glob.glob(os.path.join(saved, "model*.safetensors"))), f"{tuned[0]['loss']:.6f}", f"{loss:.6f}", f"{theirs:.6f}", error]])


def disk():
    global failed
    out = scratch("checkpoints/disk", empty=True)
    package, full = os.path.join(out, "package"), os.path.join(out, "full")
    batch = golden("llama", "s61")
    compile_model(pt2("llama"), package, 2, 61, *ADAMW)
    os.makedirs(full)
    command = [os.path.join(BUILD, "bin", "autosp-run"), "--nproc-per-node", "2", package, "--golden", batch, "--steps", "40", "--lr", "0.01",
               "--checkpoint", os.path.join(full, "c"), "--checkpoint-every", "10", "--keep", "0"]
    # A file system of its own where this user may mount one, else a limit on the size of files.
    mounted = f"mount -t tmpfs -o size=800k tmpfs {full} && {{ {' '.join(command)}; code=$?; cp -r {full}/c {out}/left; exit $code; }}"
    limited = f"ulimit -f 64; {' '.join(command)}; code=$?; cp -r {full}/c {out}/left; exit $code"
    may = os.geteuid() == 0 and subprocess.run(["unshare", "-m", "mount", "-t", "tmpfs", "tmpfs", full], stderr=subprocess.DEVNULL).returncode == 0
    ran = run(*(["/usr/bin/unshare", "-m", "/bin/sh", "-c", mounted] if may else ["/bin/sh", "-c", limited]), check=False)
    left = sorted(os.listdir(os.path.join(out, "left"))) if os.path.isdir(os.path.join(out, "left")) else []
    whole = [f for f in left if f.startswith("step-")]
    again = train(package, 2, batch, 12, "--resume", os.path.join(out, "left"), check=False) if whole else None
    said = "could not be written" in ran.err and ("No space left" in ran.err or "File too large" in ran.err)
    failed |= ran.code != 1 or not said or (may and (not whole or again.code != 0))
    table("A disk that fills up", ["a disk of", "exit", "says so", "checkpoints left", "the newest resumes"],
          [["800 KiB" if may else "files of 32 KiB", ran.code, "yes" if said else "NO", " ".join(whole), "yes" if again and again.code == 0 else "no"]])
    print("\n".join(line for line in ran.err.splitlines() if "error" in line or "hint" in line))


def kill():
    global failed
    out = scratch("checkpoints/kill", empty=True)
    package, checkpoints = os.path.join(out, "package"), os.path.join(out, "c")
    batch = golden("llama", "s61")
    compile_model(pt2("llama"), package, 2, 61, *ADAMW, "--zero", 2)
    whole = {s["step"]: s["loss"] for s in json_lines(train(package, 2, batch, 400))}
    random.seed(6)
    kills, loaded, amid, worst = 25, 0, 0, 0.0
    for _ in range(kills):
        if newest(checkpoints) if os.path.isdir(checkpoints) else None:
            if int(newest(checkpoints)[5:]) > 350:
                shutil.rmtree(checkpoints)
        job = subprocess.Popen([os.path.join(BUILD, "bin", "autosp-run"), "--nproc-per-node", "2", package, "--golden", batch, "--steps", "400",
                                "--lr", "0.01", "--checkpoint", checkpoints, "--resume", "auto", "--checkpoint-every", "1", "--keep", "3"],
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        ranks = []
        while len(ranks) < 2 and job.poll() is None:
            ranks = [int(p) for p in open(f"/proc/{job.pid}/task/{job.pid}/children").read().split()]
        job.stdout.readline()
        time.sleep(random.uniform(0, 0.5))
        try:
            os.kill(random.choice(ranks), signal.SIGKILL)
        except ProcessLookupError:
            pass
        job.stdout.read()
        job.wait()
        amid += any(f.endswith(".tmp") for f in os.listdir(checkpoints))
        step = int(newest(checkpoints)[5:])
        rest = train(package, 2, batch, min(step + 2, 400), "--resume", checkpoints, check=False)
        lines = json_lines(rest)
        ok = rest.code == 0 and "skipped" not in rest.err
        loaded += ok
        for s in lines if ok else []:
            worst = max(worst, abs(s["loss"] - whole[s["step"]]) / whole[s["step"]])
    failed |= loaded != kills or worst > 0
    table("kill -9 of a random rank at a random time, a checkpoint after every step, 2 ranks, zero 2",
          ["kills", "amid a checkpoint", "the newest loads", "worst loss error of the two next steps"], [[kills, amid, loaded, worst]])


for part in PARTS:
    {"resume": resume, "smollm2": smollm2, "disk": disk, "kill": kill}[part]()
sys.exit(failed)
