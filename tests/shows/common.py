"""What the shows share: the programs, the models, tables, and a Python with PyTorch for those that need eager references."""
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import time

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
BUILD = os.environ.get("AUTOSPC_BUILD", os.path.join(ROOT, "build"))
SCRATCH = os.path.join(BUILD, "shows")
MODELS = os.path.join(ROOT, "models")
ZOO = os.path.join(os.path.dirname(ROOT), "shared", "zoo")      # eight more models, beside a checkout where they are given
PEERS = os.path.join(os.path.dirname(ROOT), "shared", "peers")  # other sequence-parallel trainers, likewise
ZOO_MODELS = ["nanogpt", "llamastyle", "hf_llama", "hf_gpt2", "hf_qwen3", "hf_mistral", "hf_gemma3", "hf_bert"]
STRATEGIES = ["ulysses", "allgather-kv"]


def need(folder, what):
    if not os.path.isdir(folder):
        print(f"skipped: {what} is not here ({os.path.relpath(folder, ROOT)})")
        sys.exit(0)


def pt2(model, root=MODELS):
    return os.path.join(root, model, model + ".pt2")


def golden(model, which, root=MODELS):
    return os.path.join(root, model, f"{model}.golden_{which}.safetensors")


def zoo_golden(model, seq_len):
    """A golden of the zoo at any length that the model takes; computed once where it is not there."""
    file = golden(model, f"s{seq_len}", ZOO)
    if not os.path.exists(file):
        file = os.path.join(scratch("goldens"), f"{model}.golden_s{seq_len}.safetensors")
    if not os.path.exists(file):
        python(["-c", f"import make_zoo; make_zoo.golden({model!r}, {seq_len}, {file + '.part'!r})"], path=[ZOO])
        os.replace(file + ".part", file)
    return file


class Ran:
    def __init__(self, command, code, out, err, seconds, peak):
        self.command, self.code, self.out, self.err, self.seconds, self.peak = command, code, out, err, seconds, peak

    @property
    def text(self):
        return self.out + self.err


def run(*args, check=True, limit=3600, env=None, threads=1):
    """Runs a program of ours, or a path. `peak` is the largest resident set of it and its children, in bytes."""
    args = [str(a) for a in args]
    if "/" not in args[0]:
        args[0] = os.path.join(BUILD, "bin", args[0])
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), **(env or {})}
    start = time.monotonic()
    # Files without a name: shows may run beside each other.
    with tempfile.TemporaryFile("w+", dir=scratch("log")) as out, tempfile.TemporaryFile("w+", dir=scratch("log")) as err:
        child = subprocess.Popen(args, stdout=out, stderr=err, env=environment)
        try:
            _, status, usage = wait(child.pid, start + limit)
        except TimeoutError:
            child.kill()
            _, status, usage = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        seconds = time.monotonic() - start
        out.seek(0), err.seek(0)
        ran = Ran(args, child.returncode, out.read(), err.read(), seconds, usage.ru_maxrss * 1024)
    if check and ran.code != 0:
        print(f"{' '.join(args)}\nexit {ran.code}\n{ran.text[-3000:]}")
        sys.exit(1)
    return ran


def wait(pid, deadline):
    while True:
        done = os.wait4(pid, os.WNOHANG)
        if done[0]:
            return done
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.005)


def scratch(name, empty=False):
    folder = os.path.join(SCRATCH, name)
    if empty:
        shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder, exist_ok=True)
    return folder


def compile_model(model, out, ranks, seq_len, *more, check=True):
    shutil.rmtree(out, ignore_errors=True)
    os.makedirs(os.path.dirname(out), exist_ok=True)
    counts = [] if ranks is None else ["--ranks", ranks]  # none: --mesh is in `more`
    return run("autospc", "compile", model, "-o", out, *counts, "--seq-len", seq_len, *more, check=check)


def lowest_budget(model, out, ranks, seq_len, *more):
    """The least budget in bytes that plans, as exit 5 says it. `more` may hold --mesh, with ranks None."""
    ran = compile_model(model, out, ranks, seq_len, "--memory-budget", 1, *more, check=False)
    hit = re.search(r"needs .* at the least: .* \((\d+) bytes\) more than the budget", ran.err)
    if ran.code != 5 or not hit:
        print(f"{' '.join(ran.command)}\nexit {ran.code}, not 5 with the bytes that are needed\n{ran.text[-3000:]}")
        sys.exit(1)
    return int(hit.group(1)) + 1


def inspect(path):
    return json.loads(run("autospc", "inspect", path, "--json").out)


def run_golden(package, ranks, file, *more, check=False):
    return run("autosp-run", "--nproc-per-node", ranks, package, "--golden", file, "--json", *more, check=check)


def json_lines(ran):
    return [json.loads(line) for line in ran.out.splitlines() if line.startswith("{")]


def worst_error(ran):
    """The worst error that `--golden --json` printed, as a number (NaN is none to be compared), or what went wrong."""
    hit = re.search(r'"worst_error": ([-+.e\d]+|nan|inf)', ran.out)
    return float(hit.group(1)) if hit else f"exit {ran.code}"


def safetensors(path):
    """The tensors of a file that are float64, as lists, and its metadata."""
    with open(path, "rb") as f:
        header = json.loads(f.read(struct.unpack("<Q", f.read(8))[0]))
        data = f.read()
    metadata = header.pop("__metadata__", {})
    wide = {name: t["data_offsets"] for name, t in header.items() if t["dtype"] == "F64"}
    return {name: list(struct.unpack(f"<{(end - start) // 8}d", data[start:end])) for name, (start, end) in wide.items()}, metadata


def mib(size):
    return f"{size / 2**20:.1f}"


def table(title, header, rows):
    """Prints rows of cells under a header, columns aligned."""
    cells = [[c if isinstance(c, str) else f"{c:.1e}" if isinstance(c, float) and abs(c) < 1e-2 and c else
              f"{c:.3g}" if isinstance(c, float) else str(c) for c in row] for row in rows]
    widths = [max(len(r[i]) for r in [header] + cells) for i in range(len(header))]
    print(f"\n{title}")
    for row in [header, ["-" * w for w in widths]] + cells:
        print("  ".join(c.ljust(w) for c, w in zip(row, widths)).rstrip())
    sys.stdout.flush()


def torch_python():
    """A Python with PyTorch, transformers and safetensors, in the build folder (5 GB the first time); $AUTOSPC_PYTHON names another."""
    if os.environ.get("AUTOSPC_PYTHON"):
        return os.environ["AUTOSPC_PYTHON"]
    peers = os.environ.get("PEERS_VENV", os.path.expanduser("~/.cache/autospc-peers"))  # where ../shared/peers/env.sh installs
    if os.path.exists(os.path.join(peers, ".ready")):
        return os.path.join(peers, "bin", "python")
    venv = os.path.join(BUILD, "pyvenv")
    ready = os.path.join(venv, ".ready")
    if not os.path.exists(ready):
        print(f"installing PyTorch for eager references into {venv}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        subprocess.run([os.path.join(venv, "bin", "pip"), "install", "-q", "--disable-pip-version-check", "torch==2.11.0", "numpy",
                        "transformers==5.23.0", "safetensors", "accelerate", "gguf", "sentencepiece", "protobuf"], check=True)
        open(ready, "w").close()
    return os.path.join(venv, "bin", "python")


def python(script, *args, cwd=None, path=()):
    """Runs a script (or -c text) under torch_python()."""
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": os.pathsep.join(path)}
    done = subprocess.run([torch_python(), *([script] if isinstance(script, str) else script), *map(str, args)], cwd=cwd, env=env,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        print(done.stdout[-3000:])
        sys.exit(1)
    return done.stdout
