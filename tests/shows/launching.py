"""Every way to start ranks: our launcher, torchrun, an emulated Slurm, mpirun, and two network namespaces as two machines."""
import os
import shutil
import socket
import subprocess
import sys
import time

from common import BUILD, MODELS, compile_model, golden, pt2, scratch, table, torch_python

RUN = os.path.join(BUILD, "bin", "autosp-run")
STEPS = 5
package = {p: os.path.join(scratch("launching"), f"package{p}") for p in (2, 4)}
for ranks, folder in package.items():
    compile_model(pt2("gpt", MODELS), folder, ranks, 61, "--optimizer", "adamw", "--clip-norm", 1)
# What no launcher of this process may say of its ranks.
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "OMPI_", "PMI", "RANK", "WORLD_SIZE", "MASTER_", "LOCAL_"))}
CLEAN.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")


def arguments(ranks):
    return [package[ranks], "--golden", golden("gpt", "s61", MODELS), "--steps", str(STEPS), "--lr", "0.01"]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def losses(text):
    return [line.split("loss")[1].split()[0] for line in text.splitlines() if "loss" in line and "step" in line]


def start(command, env=None):
    return subprocess.Popen([str(c) for c in command], env={**CLEAN, **(env or {})}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True)


rows, expected = [], None


def show(way, detail, commands):
    """Runs the processes of one start, (command, environment) each; their losses are those of our own launcher."""
    global expected
    begin = time.monotonic()
    processes = [start(*c) for c in commands]
    said = [p.communicate(timeout=300) for p in processes]
    seconds = time.monotonic() - begin
    codes = [p.returncode for p in processes]
    found = losses("".join(out for out, _ in said))
    if expected is None:
        expected = found
    ok = not any(codes) and len(found) == STEPS and found == expected
    rows.append([way, detail, f"{seconds:.1f} s", found[-1] if found else "-", "as our launcher's" if ok else f"WRONG, exit {codes}"])
    if not ok:
        print("".join(out + err for out, err in said)[-3000:])


def skip(way, why):
    rows.append([way, "-", "-", "-", f"skipped: {why}"])


show("autosp-run --nproc-per-node 2", "its own store on a free port", [([RUN, "--nproc-per-node", 2, *arguments(2)],)])

torchrun = os.path.join(os.path.dirname(torch_python()), "torchrun")
if os.path.exists(torchrun):
    show("torchrun --no-python", "TORCHELASTIC_USE_AGENT_STORE",
         [([torchrun, "--no-python", "--nproc-per-node", 2, "--master-port", free_port(), RUN, *arguments(2)],)])
else:
    skip("torchrun --no-python", "no torchrun beside " + torch_python())

# What srun sets for two tasks on one node of a job, by a script in srun's place.
srun = os.path.join(scratch("launching"), "srun")
with open(srun, "w") as f:
    f.write("""#!/bin/bash
# srun --ntasks N COMMAND...: the environment that Slurm gives the tasks of a job's first step on one node.
n=$2; shift 2
for i in $(seq 0 $((n - 1))); do
  SLURM_JOB_ID=4242 SLURM_JOBID=4242 SLURM_STEP_ID=0 SLURM_STEPID=0 SLURM_NTASKS=$n SLURM_NPROCS=$n SLURM_STEP_NUM_TASKS=$n \\
  SLURM_PROCID=$i SLURM_LOCALID=$i SLURM_NODEID=0 SLURM_NNODES=1 SLURM_JOB_NUM_NODES=1 SLURM_STEP_NUM_NODES=1 \\
  SLURM_TASKS_PER_NODE=$n SLURM_STEP_TASKS_PER_NODE=$n SLURM_JOB_NODELIST='gpu[017-017]' SLURM_STEP_NODELIST='gpu[017-017]' \\
  SLURM_LAUNCH_NODE_IPADDR=127.0.0.1 "$@" &
done
code=0
for job in $(jobs -p); do wait $job || code=$?; done
exit $code
""")
os.chmod(srun, 0o755)
show("srun (emulated)", "SLURM_* alone", [([srun, "--ntasks", 2, RUN, *arguments(2)],)])

mpirun = shutil.which("mpirun")
if mpirun:
    root = ["--allow-run-as-root"] if os.getuid() == 0 else []
    version = subprocess.run([mpirun, "--version"], capture_output=True, text=True).stdout.splitlines()[0]
    show("mpirun -n 2", version, [([mpirun, *root, "--oversubscribe", "-n", 2, RUN, *arguments(2)],)])
else:
    skip("mpirun -n 2", "no mpirun: apt-get install openmpi-bin")


def ip(*command):
    return subprocess.run(["ip", *command], capture_output=True).returncode == 0


a, b = f"asA{os.getpid() % 10000}", f"asB{os.getpid() % 10000}"
try:
    made = ip("netns", "add", a) and ip("netns", "add", b) and \
        ip("link", "add", f"v{a}", "netns", a, "type", "veth", "peer", "name", f"v{b}", "netns", b)
    if made:
        for number, name in enumerate((a, b), 1):
            ip("-n", name, "addr", "add", f"10.213.8.{number}/24", "dev", f"v{name}")
            ip("-n", name, "link", "set", f"v{name}", "up")
            ip("-n", name, "link", "set", "lo", "up")

        def machines(ranks):
            return [(["ip", "netns", "exec", name, RUN, "--nproc-per-node", ranks // 2, "--nnodes", 2, "--node-rank", n,
                      "--rdzv-endpoint", "10.213.8.1:29533", *arguments(ranks)],) for n, name in enumerate((a, b))]
        show("two network namespaces, 2 ranks", "--nnodes 2 over a veth pair", machines(2))
        expected_of_two, expected = expected, None
        show("autosp-run --nproc-per-node 4", "", [([RUN, "--nproc-per-node", 4, *arguments(4)],)])
        show("two network namespaces, 4 ranks", "--nnodes 2 over a veth pair", machines(4))
    else:
        skip("two network namespaces", "this user can't make them (ip netns add)")
finally:
    for name in (a, b):
        ip("netns", "del", name)
table(f"{STEPS} AdamW steps of the GPT of models/, started in every way", ["started by", "how", "time", "last loss", "losses"], rows)
sys.exit(any("WRONG" in row[-1] for row in rows))
