"""Ranks killed and stopped at random: the right cause each time, nobody left, and the run goes on from its last checkpoint.

--kills N (100), --stops N (5), --seed S: how often, and which random ranks and times.
"""
import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from common import BUILD, MODELS, compile_model, golden, pt2, run, scratch, table

parser = argparse.ArgumentParser()
parser.add_argument("--kills", type=int, default=100)
parser.add_argument("--stops", type=int, default=5)
parser.add_argument("--seed", type=int, default=1)
args = parser.parse_args()
RUN = os.path.join(BUILD, "bin", "autosp-run")
STEPS, EVERY, HEARTBEAT = 30, 4, 3
SIZES = (2, 3)
draw = random.Random(args.seed)
saves = "--checkpoint-every" in run("autosp-run", "--help").out
packages = {p: os.path.join(scratch("failing"), f"package{p}") for p in SIZES}
for p, package in packages.items():
    compile_model(pt2("gpt", MODELS), package, p, 61, "--optimizer", "adamw", "--clip-norm", 1)


class Job:
    """A run of `ranks` in a process group of its own, its output in files."""

    def __init__(self, ranks, *more, group=None):
        command = [RUN, "--nproc-per-node", ranks, packages[ranks], "--golden", golden("gpt", "s61", MODELS), "--lr", "0.01",
                   "--steps", STEPS, "--json", "--heartbeat-timeout", HEARTBEAT, *more]
        self.out, self.err = (tempfile.TemporaryFile("w+", dir=scratch("log")) for _ in range(2))
        self.start = time.monotonic()
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        join = (lambda: put(group, "cgroup.procs", os.getpid())) if group else None
        self.process = subprocess.Popen([str(c) for c in command], stdout=self.out, stderr=self.err, start_new_session=True,
                                        preexec_fn=join, env=environment)

    def ranks(self):
        """Processes of the ranks that live, by rank; one that has not got its name yet is left out."""
        found = {}
        try:
            with open(f"/proc/{self.process.pid}/task/{self.process.pid}/children") as f:
                children = f.read().split()
        except OSError:
            return found
        for child in children:
            try:
                with open(f"/proc/{child}/environ", "rb") as f:
                    variables = dict(v.split(b"=", 1) for v in f.read().split(b"\0") if b"=" in v)
            except OSError:
                continue
            if b"AUTOSP_LAUNCHED" in variables:
                found[int(variables[b"RANK"])] = int(child)
        return found

    def end(self, limit=240):
        """Waits; sets code, seconds, text and losses, by step."""
        begin = time.monotonic()
        try:
            self.code = self.process.wait(limit)
        except subprocess.TimeoutExpired:
            self.code = None
            os.killpg(self.process.pid, signal.SIGKILL)
        self.seconds = time.monotonic() - begin
        self.out.seek(0), self.err.seek(0)
        self.text = self.err.read()
        lines = [json.loads(line) for line in self.out.read().splitlines() if line.startswith("{")]
        self.losses = {line["step"]: line["loss"] for line in lines if "step" in line and "loss" in line}
        return self

    def left(self):
        """How many of its processes still run."""
        count = 0
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/stat") as f:
                    state, _, _, session = f.read().rsplit(")", 1)[1].split()[:4]
            except OSError:
                continue
            count += int(session) == self.process.pid and state != "Z"
        return count


def put(folder, name, value):
    with open(os.path.join(folder, name), "w") as f:
        f.write(str(value))


def memory_group():
    """A control group whose memory can be limited, the name of its limit and of its highest use; None where there is none."""
    for root, limit, peak in (("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.max_usage_in_bytes"),
                              ("/sys/fs/cgroup", "memory.max", "memory.peak")):
        folder = os.path.join(root, f"autospc-{os.getpid()}")
        try:
            os.mkdir(folder)
            if os.path.exists(os.path.join(folder, limit)):
                return folder, limit, peak
            os.rmdir(folder)
        except OSError:
            continue
    return None


def checkpoints(folder):
    return ["--checkpoint", folder, "--checkpoint-every", EVERY, "--keep", 2] if saves else []


def newest(folder):
    """The step of the newest complete checkpoint, or None: what is being written has a hidden name."""
    steps = [int(name[5:]) for name in os.listdir(folder) if name.startswith("step-")] if os.path.isdir(folder) else []
    return max(steps, default=None)


whole, took = {}, {}
for p in SIZES:
    folder = scratch(f"failing/whole{p}", empty=True)
    job = Job(p, *checkpoints(folder)).end()
    if job.code != 0 or len(job.losses) != STEPS:
        print(f"an uninterrupted run ended with {job.code}\n{job.text}")
        sys.exit(1)
    whole[p], took[p] = job.losses, time.monotonic() - job.start

kills = dict(tried=0, late=0, causes=0, named=0, codes=0, orphans=0, slowest=0.0, resumed=0, loaded=0, equal=0, began=0)
wrong = []
while kills["tried"] < args.kills:
    p = draw.choice(SIZES)
    folder = scratch("failing/killed", empty=True)
    job = Job(p, *checkpoints(folder))
    at = draw.uniform(0, took[p])
    while time.monotonic() - job.start < at or (len(job.ranks()) < p and job.process.poll() is None):
        time.sleep(0.001)
    victim = draw.randrange(p)
    process = job.ranks().get(victim)
    try:
        if process is None or job.process.poll() is not None:
            raise ProcessLookupError
        os.kill(process, signal.SIGKILL)
    except ProcessLookupError:
        job.end()
        kills["late"] += 1  # the run had ended before
        continue
    job.end()
    if job.code == 0 and STEPS in job.losses:  # every rank had done its work: the kill met a process that was leaving
        kills["late"] += 1
        continue
    kills["tried"] += 1
    right = f"error: rank {victim} was ended by signal 9" in job.text
    survivors = [r for r in range(p) if r != victim]
    # A rank that had done its last step is missed by nobody.
    training = bool(job.losses) and f"at rank {victim}: ending" not in job.text
    kills["began"] += training
    named = all(f"[rank {r}] error: rank {victim} is gone" in job.text for r in survivors)
    kills["causes"] += right
    kills["codes"] += job.code == 7
    kills["named"] += named and training
    kills["orphans"] += job.left()
    kills["slowest"] = max(kills["slowest"], job.seconds)
    if not right or job.code != 7 or job.left() or (training and not named):
        wrong.append(f"rank {victim} of {p} killed after {at:.2f} s: exit {job.code}\n{job.text}")
    step = newest(folder)
    if step is not None:
        kills["resumed"] += 1
        again = Job(p, "--resume", folder).end()
        kills["loaded"] += again.code == 0 and f"resumed after step {step} " in again.text
        equal = again.code == 0 and again.losses == {s: loss for s, loss in whole[p].items() if s > step}
        kills["equal"] += equal
        if not equal:
            wrong.append(f"resumed: exit {again.code}, steps {sorted(again.losses)[:3]}…\n{again.text}")
table(f"{args.kills} × kill -9 of a random rank of 2 or 3 at a random time of a run of {took[2]:.1f} s, --heartbeat-timeout {HEARTBEAT}",
      ["what", "count"],
      [["right first cause said by the launcher", f"{kills['causes']} of {kills['tried']}"],
       ["exit code 7", f"{kills['codes']} of {kills['tried']}"],
       ["every survivor names the dead rank (kills between the first step and the last)", f"{kills['named']} of {kills['began']}"],
       ["processes left", str(kills["orphans"])],
       ["slowest end after the kill", f"{kills['slowest']:.2f} s"],
       ["the newest complete checkpoint, where there was one, loaded", f"{kills['loaded']} of {kills['resumed']}" if saves else "no checkpoints yet"],
       ["resumed losses equal the uninterrupted run's", f"{kills['equal']} of {kills['resumed']}" if saves else "-"],
       ["kills that came after the end, drawn again", str(kills["late"])]])

rows, stopped_well = [], True
for trial in range(args.stops):
    p = draw.choice(SIZES)
    job = Job(p)
    time.sleep(draw.uniform(0.3, 0.9) * took[p])
    victim = draw.randrange(p)
    process = job.ranks().get(victim)
    if process is None:
        job.end()
        continue
    os.kill(process, signal.SIGSTOP)
    job.end()
    survivor = next((line for line in job.text.splitlines() if "has been silent" in line), "")
    where = next((line.split("at ", 1)[1] for line in job.text.splitlines() if "]   at rank" in line and "instruction" in line), "")
    good = job.code == 6 and job.seconds < HEARTBEAT + 10 and f"rank {victim} has been silent" in survivor and not job.left()
    stopped_well &= good
    rows.append([f"{victim} of {p}", str(job.code), f"{job.seconds:.1f} s", where[:90], "yes" if good else "NO"])
    if not good:
        wrong.append(f"rank {victim} of {p} stopped: exit {job.code}\n{job.text}")
if rows:
    table(f"SIGSTOP of a random rank, --heartbeat-timeout {HEARTBEAT}", ["rank", "exit", "ended after", "where a survivor was", "right"], rows)

group = memory_group()
if group:
    folder, limit, peak = group
    try:
        Job(2, group=folder).end()
        with open(os.path.join(folder, peak)) as f:
            most = int(f.read())
        for share in (0.8, 0.7, 0.6, 0.5, 0.4):  # file pages can be given back, so what is really needed is found by trying
            put(folder, limit, int(share * most))
            job = Job(2, group=folder).end()
            if job.code != 0:
                break
        said = next((line for line in job.text.splitlines() if "for want of memory" in line), "")
        cause = next((line for line in job.text.splitlines() if line.startswith("error: rank")), "")
        good = job.code == 7 and "ended by signal 9" in cause and "the kernel killed" in said and not job.left()
        table(f"Memory limited to {share:.0%} of {most >> 20} MiB by a control group", ["exit", "cause", "hint", "right"],
              [[str(job.code), cause, said.strip()[:80], "yes" if good else "NO"]])
        if not good:
            wrong.append(job.text)
    finally:
        time.sleep(0.2)
        os.rmdir(folder)
else:
    print("out of memory: skipped, this user can't make a control group")

if saves:
    p, folder = 2, scratch("failing/restarted", empty=True)
    job = Job(p, *checkpoints(folder), "--restart", 2)
    while newest(folder) is None and job.process.poll() is None:
        time.sleep(0.002)
    os.kill(job.ranks()[1], signal.SIGKILL)
    job.end()
    equal = job.losses == whole[p]
    said = next((line for line in job.text.splitlines() if "again" in line), "")
    table("--restart 2, one rank killed after the first checkpoint", ["exit", "losses equal the uninterrupted run's", "said"],
          [[str(job.code), "yes" if equal else "NO", said]])
    if job.code != 0 or not equal:
        wrong.append(job.text)
if wrong:
    print("\nwrong:\n" + "\n".join(wrong[:3])[:4000])
shutil.rmtree(scratch("failing/killed"), ignore_errors=True)
sys.exit(bool(wrong) or not stopped_well)
