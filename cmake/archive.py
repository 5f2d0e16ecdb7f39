"""archive.py BUILD TORCH [--runtime-only] [-o FILE]: the relocatable archive of a build (./dev package calls it).

Prints what it holds, by size, and what could be left out. Needs patchelf and binutils."""
import argparse
import glob
import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
RUNTIME, COMPILER = ["autosp-run"], ["autospc", "autospc-opt"]
# glibc's own: they belong to the node's loader, and must not be mixed with another's.
GLIBC = re.compile(r"(ld-linux-x86-64|libc|libm|libdl|librt|libpthread|libutil|libresolv|libanl|libnsl)\.so")
# Compiled into the programs: the Debian packages whose licences go along.
HEADER_ONLY = ["libboost1.74-dev", "libflatbuffers-dev", "nlohmann-json3-dev", "libgloo-dev"]


def output(*command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def needed(path):
    """Soname and file of every shared library that a program loads, glibc's left out."""
    found = {}
    for line in output("ldd", path).splitlines():
        name, _, rest = line.strip().partition(" => ")
        if not rest or GLIBC.match(os.path.basename(name)):
            continue
        if rest.startswith("not found"):
            sys.exit(f"{path} needs {name}, which is not here: ./dev build first")
        found[name] = os.path.realpath(rest.rsplit(" (", 1)[0])
    return found


def debian_package(path):
    """The Debian package that a file is of, or None."""
    for candidate in (path, path.replace("/usr/lib/", "/lib/", 1)):
        done = subprocess.run(["dpkg-query", "-S", candidate], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        if done.returncode == 0:
            return done.stdout.split(":")[0]
    return None


def copy_licences(stage, libraries, torch):
    """A folder for each origin; returns the libraries whose licence was not found."""
    site, missing = os.path.dirname(torch), []
    folder = os.path.join(stage, "licences")
    os.makedirs(folder)
    shutil.copy(os.path.join(ROOT, "LICENSE"), os.path.join(folder, "autospc"))
    wheels = {}
    for info in glob.glob(os.path.join(site, "*.dist-info")):
        with open(os.path.join(info, "RECORD")) as record:
            for line in record:
                wheels[os.path.realpath(os.path.join(site, line.split(",")[0]))] = info
    packages = set(HEADER_ONLY)
    for name, path in libraries.items():
        if path in wheels:
            info = wheels[path]
            target = os.path.join(folder, os.path.basename(info)[:-len(".dist-info")])
            if not os.path.exists(target):
                shutil.copytree(os.path.join(info, "licenses"), target)
        elif package := debian_package(path):
            packages.add(package)
        else:
            missing.append(name)
    for package in sorted(packages):
        copyright = f"/usr/share/doc/{package}/copyright"
        if os.path.exists(copyright):
            shutil.copy(copyright, os.path.join(folder, package))
        elif package not in HEADER_ONLY:
            missing.append(package)
    return missing


def newest_glibc(files):
    """The highest version of glibc's symbols that the files ask for: what a node must have."""
    versions = set()
    for path in files:
        versions |= set(re.findall(r"GLIBC_(\d+\.\d+)", output("objdump", "-T", path)))
    return max(versions, key=lambda v: [int(x) for x in v.split(".")])


def write_tar(stage, name, archive):
    """Names sorted, owners and times left out: equal content gives equal bytes."""
    def tidy(info):
        info.uid = info.gid = info.mtime = 0
        info.uname = info.gname = ""
        info.mode = 0o755 if info.isdir() or info.mode & 0o100 else 0o644
        return info

    part = archive + ".part"
    with open(part, "wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.GNU_FORMAT) as tar:
            tar.add(stage, name, recursive=False, filter=tidy)
            for folder, folders, files in os.walk(stage):
                folders.sort()
                for entry in sorted(folders + files):
                    path = os.path.join(folder, entry)
                    tar.add(path, os.path.join(name, os.path.relpath(path, stage)), recursive=False, filter=tidy)
    os.replace(part, archive)


def size_of(path):
    if os.path.isfile(path):
        return os.path.getsize(path)
    return sum(os.path.getsize(os.path.join(d, f)) for d, _, files in os.walk(path) for f in files)


def mib(size):
    return f"{size / 2**20:8.1f} MiB"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("build")
    parser.add_argument("torch")
    parser.add_argument("--runtime-only", action="store_true", help="leave the compiler out")
    parser.add_argument("-o", "--output", help="the archive to write")
    options = parser.parse_args()
    with open(os.path.join(ROOT, "CMakeLists.txt")) as f:
        version = re.search(r"project\(autospc VERSION (\S+)", f.read()).group(1)
    name = f"autospc-{'runtime-' if options.runtime_only else ''}{version}-linux-x86_64"
    archive = options.output or os.path.join(options.build, name + ".tar.gz")
    programs = RUNTIME + ([] if options.runtime_only else COMPILER)
    with tempfile.TemporaryDirectory(dir=options.build) as stage:
        for folder in ("bin", "lib"):
            os.makedirs(os.path.join(stage, folder))
        libraries, symbols = {}, 0
        for program in programs:
            source, target = os.path.join(options.build, "bin", program), os.path.join(stage, "bin", program)
            libraries.update(needed(source))
            subprocess.run(["strip", "-o", target, source], check=True)
            subprocess.run(["patchelf", "--set-rpath", "$ORIGIN/../lib", target], check=True)
            symbols += os.path.getsize(source) - os.path.getsize(target)
        for soname, path in libraries.items():
            shutil.copy(path, os.path.join(stage, "lib", soname))
        missing = copy_licences(stage, libraries, options.torch)
        if missing:
            sys.exit(f"no licence found of {', '.join(missing)}")
        for file in ("README.md", "LICENSE"):
            shutil.copy(os.path.join(ROOT, file), stage)
        os.makedirs(os.path.join(stage, "models"))
        for file in ("llama.pt2", "llama.golden_s61.safetensors"):
            shutil.copy(os.path.join(ROOT, "models", "llama", file), os.path.join(stage, "models"))
        glibc = newest_glibc(glob.glob(os.path.join(stage, "bin", "*")) + glob.glob(os.path.join(stage, "lib", "*")))
        write_tar(stage, name, archive)

        print(f"{archive}: {mib(os.path.getsize(archive)).strip()}, unpacked {mib(size_of(stage)).strip()}")
        parts = [os.path.join(folder, f) for folder in ("bin", "lib") for f in os.listdir(os.path.join(stage, folder))]
        for part in sorted(parts + ["licences", "models"], key=lambda p: -size_of(os.path.join(stage, p))):
            print(f"  {mib(size_of(os.path.join(stage, part)))}  {part}")
        print(f"A node needs x86-64 Linux with glibc {glibc} or newer, and nothing else.")
        print("What could be left out, and what is:")
        if not options.runtime_only:
            compiler = sum(os.path.getsize(os.path.join(stage, "bin", p)) for p in COMPILER)
            print(f"  {mib(compiler)}  the compiler, where packages are only run: --runtime-only")
        unused = [p for p in ("lib/libcupti.so.13", "lib/libcudart.so.13") if os.path.exists(os.path.join(stage, p))]
        print(f"  {mib(sum(os.path.getsize(os.path.join(stage, p)) for p in unused))}  CUDA's profiler and run time: a CPU never calls them, "
              "but LibTorch's wheel is linked to them; a CPU build of LibTorch would not be")
        print(f"  {mib(symbols)}  debug symbols and symbol tables of our programs: left out already")
        cuda = [p for p in glob.glob(os.path.join(options.torch, "lib", "libtorch_cuda*.so"))]
        print(f"  {mib(sum(os.path.getsize(p) for p in cuda))}  LibTorch's CUDA libraries: left out already; --device cuda says so")
        digest = hashlib.sha256()
        with open(archive, "rb") as f:
            for block in iter(lambda: f.read(1 << 20), b""):
                digest.update(block)
        print(f"sha256 {digest.hexdigest()}")


main()
