"""The archive of `./dev package` in a root that holds glibc and nothing else, without network: it compiles, compares and trains two ranks.

Needs the right to make namespaces and to chroot (root, or a container that allows it)."""
import ctypes
import fcntl
import glob
import os
import re
import shutil
import socket
import struct
import subprocess
import sys
import tarfile
import time

from common import BUILD, ROOT, scratch, table

CLONE_NEWNS, CLONE_NEWNET, MS_REC, MS_PRIVATE = 0x20000, 0x40000000, 0x4000, 0x40000
libc = ctypes.CDLL(None, use_errno=True)


def checked(result, what):
    if result != 0:
        raise OSError(ctypes.get_errno(), f"{what}: {os.strerror(ctypes.get_errno())}")


def loopback_up():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        flags = struct.pack("16sh22x", b"lo", 0x1 | 0x40)  # IFF_UP, IFF_RUNNING
        fcntl.ioctl(s, 0x8914, flags)  # SIOCSIFFLAGS


def bare_root(folder):
    """glibc's files, /proc, /dev/null and /tmp: no shell, no package manager, no libstdc++."""
    shutil.rmtree(folder, ignore_errors=True)
    held = []
    for pattern in ("ld-linux-x86-64.so.2", "libc.so.6", "libm.so.6", "libdl.so.2", "librt.so.1", "libpthread.so.0", "libutil.so.1"):
        file = next(f for d in ("/lib64", "/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu") for f in glob.glob(os.path.join(d, pattern)))
        target = os.path.join(folder, "lib64" if pattern.startswith("ld-") else "lib/x86_64-linux-gnu")
        os.makedirs(target, exist_ok=True)
        shutil.copy(os.path.realpath(file), os.path.join(target, pattern))
        held.append(pattern)
    for made in ("proc", "dev", "tmp", "job"):
        os.makedirs(os.path.join(folder, made))
    return held


def in_root(root, *command):
    """Runs a program there, in namespaces of its own: only a loopback interface, its own /proc and /dev."""
    def enter():
        checked(libc.unshare(CLONE_NEWNS | CLONE_NEWNET), "unshare")
        checked(libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None), "mount /")
        checked(libc.mount(b"proc", os.path.join(root, "proc").encode(), b"proc", 0, None), "mount /proc")
        checked(libc.mount(b"/dev", os.path.join(root, "dev").encode(), None, 0x1000, None), "mount /dev")
        loopback_up()
        os.chroot(root)
        os.chdir("/job")

    start = time.monotonic()
    done = subprocess.run(command, preexec_fn=enter, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                          env={"HOME": "/tmp", "TERM": "dumb"})
    return done, time.monotonic() - start


def main():
    if os.geteuid() != 0:
        print("skipped: entering a bare root needs root")
        return 0
    made = subprocess.run([os.path.join(ROOT, "dev"), "package"], stdout=subprocess.PIPE, text=True, check=True,
                          env={**os.environ, "AUTOSPC_BUILD": BUILD}).stdout
    print(made.strip())
    archive = re.search(r"^(\S+\.tar\.gz)", made, re.M).group(1)  # behind what the build says
    root = os.path.join(scratch("package"), "root")
    held = bare_root(root)
    with tarfile.open(archive) as tar:
        tar.extractall(os.path.join(root, "opt"))
    (name,) = os.listdir(os.path.join(root, "opt"))
    home = f"/opt/{name}"
    model, golden = f"{home}/models/llama.pt2", f"{home}/models/llama.golden_s61.safetensors"
    run = [f"{home}/bin/autosp-run", "--nproc-per-node", "2", "package", "--golden", golden]
    steps = [("compile", [f"{home}/bin/autospc", "compile", model, "-o", "package", "--ranks", "2", "--seq-len", "61", "--optimizer", "adamw"]),
             ("compare with float64", run), ("train 20 steps", [*run, "--steps", "20"])]
    rows, failed = [], False
    for what, command in steps:
        done, seconds = in_root(root, *command)
        said = (done.stdout.strip().splitlines() or done.stderr.strip().splitlines() or [""])[-1]
        rows.append([what, done.returncode, f"{seconds:.1f}", said[:110]])
        failed |= done.returncode != 0
        if done.returncode != 0:
            print(done.stdout + done.stderr)
            break
        if what.startswith("train"):
            losses = [float(x) for x in re.findall(r"\bloss (\S+)", done.stdout)]
            failed |= len(losses) != 20 or losses[-1] >= losses[0]
    table(f"In a root of {', '.join(held)} alone, no network but loopback", ["what", "exit", "s", "its last line"], rows)
    shutil.rmtree(root, ignore_errors=True)
    return int(failed)


sys.exit(main())
