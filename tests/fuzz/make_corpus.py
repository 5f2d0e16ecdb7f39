"""make_corpus.py PACKAGE...: makes the binary corpus of tests/fuzz anew, from packages of one rank and from models/.

Programs are cut to one instruction each, one a kind of op, with what it reads and writes; exports lose what is text for people. Uses
flatc, and the schema of this checkout. The same packages give the same files."""
import copy
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
SCHEMA = os.path.join(ROOT, "runtime", "package", "program.fbs")
MOST = 4000  # bytes of a program with one instruction: a fuzzer is as slow as its inputs are long


def write(folder, name, data):
    folder = os.path.join(HERE, "corpus", folder)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as f:
        f.write(data)


def blob(package, digest):
    with open(os.path.join(package, "blobs", "sha256", digest.split(":")[1]), "rb") as f:
        return f.read()


def manifest_of(package):
    with open(os.path.join(package, "index.json")) as f:
        index = json.load(f)
    return index, json.loads(blob(package, index["manifests"][0]["digest"]))


def unpack(program):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "p.bin")
        with open(path, "wb") as f:
            f.write(program)
        subprocess.run(["flatc", "--json", "--strict-json", "--raw-binary", "--defaults-json", "-o", folder, SCHEMA, "--", path], check=True)
        with open(os.path.join(folder, "p.json")) as f:
            # flatc writes inf and nan, Python reads Infinity and NaN.
            return json.loads(re.sub(r"(?<=[ \[])(-?)(inf|nan)(?=[,\s\]])", lambda m: m[1] + {"inf": "Infinity", "nan": "NaN"}[m[2]], f.read()))


def pack(program):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "p.json")
        with open(path, "w") as f:
            f.write(json.dumps(program).replace("Infinity", "inf").replace("NaN", "nan"))
        subprocess.run(["flatc", "--binary", "-o", folder, SCHEMA, path], check=True)
        with open(os.path.join(folder, "p.bin"), "rb") as f:
            return f.read()


def only(whole, picked):
    """The program of some instructions alone; tensors and storages are numbered anew."""
    tensors, storages = {}, {}
    p = {"format_version": whole["format_version"], "name": "cut", "world_size": 1, "dp": 1, "seq_len": whole["seq_len"],
         "batch": whole["batch"], "strategy": "ulysses", "optimizer": "none", "device": "cpu", "compiler": "", "options": "{}",
         "arena_bytes": 0, "storages": [], "tensors": [], "instructions": [], "inputs": [], "outputs": [], "scalars": [], "sources": [],
         "aliases": [], "tie_candidates": [], "frozen": [], "notes": [], "collectives": []}

    def storage(i):
        if i < 0:
            return -1
        if i not in storages:
            storages[i] = len(storages)
            s = dict(whole["storages"][i], first=0, last=0, source="", name=f"s{storages[i]}")
            if s["arena_offset"] >= 0:
                s["arena_offset"] = p["arena_bytes"]
                p["arena_bytes"] += (s["bytes"] + 63) // 64 * 64
            p["storages"].append(s)
        return storages[i]

    def tensor(i):
        if i < 0:
            return -1
        if i not in tensors:
            tensors[i] = len(tensors)
            t = dict(whole["tensors"][i], name="")
            p["tensors"].append(t)
            t["storage"] = storage(t["storage"])
        return tensors[i]

    for n in picked:
        instruction = copy.deepcopy(whole["instructions"][n])
        instruction["outputs"] = [tensor(t) for t in instruction.get("outputs", [])]
        for arg in instruction.get("args", []):
            if arg["kind"] == "Tensor":
                arg["tensor"] = tensor(arg["tensor"])
            if arg["kind"] == "TensorList":
                arg["ints"] = [tensor(t) for t in arg.get("ints", [])]
        instruction["workspace"] = storage(instruction.get("workspace", -1))
        instruction["source"] = -1
        p["instructions"].append(instruction)
    for kind in ("inputs", "scalars"):
        p[kind] = [dict(x, tensor=tensors[x["tensor"]]) for x in whole.get(kind, []) if x["tensor"] in tensors]
    position = {n: i for i, n in enumerate(picked)}
    p["outputs"] = [dict(x, tensor=tensors[x["tensor"]], after=position[x["after"]]) for x in whole.get("outputs", [])
                    if x["tensor"] in tensors and x["after"] in position]
    return p


def program_of(package):
    _, manifest = manifest_of(package)
    layer = next(x for x in manifest["layers"] if "program" in x["mediaType"])
    return blob(package, layer["digest"])


def safetensors(tensors, metadata=None):
    header, data = ({"__metadata__": metadata} if metadata else {}), b""
    for name, dtype, shape, content in tensors:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def programs(packages):
    seen = set()
    for package in packages:
        whole = unpack(program_of(package))
        for n, instruction in enumerate(whole["instructions"]):
            op = instruction["op"]
            if op in seen:
                continue
            cut = pack(only(whole, [n]))
            if len(cut) <= MOST:
                seen.add(op)
                write("executor", "".join(c if c.isalnum() else "_" for c in op), cut)
    whole = unpack(program_of(packages[0]))
    some = only(whole, list(range(3)) + list(range(len(whole["instructions"]) - 3, len(whole["instructions"]))))
    write("program", "some", pack(some))
    return some


def package(source, program):
    """The parts of tests/fuzz/package_files.h."""
    def named(descriptor, part):
        descriptor["digest"], descriptor["size"] = "$" + part, 0
        return descriptor

    def stored(program, i):
        """Zeros of the type under which a storage is kept: that of the first tensor which covers it."""
        size = {"Int64": 8, "Float64": 8, "Float32": 4, "Bool": 1}
        names = {"Int64": "I64", "Float64": "F64", "Float32": "F32", "Bool": "BOOL"}
        s = program["storages"][i]
        dtype = next((t["dtype"] for t in program["tensors"] if t["storage"] == i and t["byte_offset"] == 0), "Float32")
        return s["name"], names[dtype], [s["bytes"] // size[dtype]], bytes(s["bytes"])

    index, manifest = manifest_of(source)
    config = json.loads(blob(source, manifest["config"]["digest"]))
    kinds = {"weights": ("Parameter", "Buffer"), "constants": ("Constant",)}
    parts = {}
    for part, storages in kinds.items():
        parts[part] = safetensors([stored(program, i) for i, s in enumerate(program["storages"]) if s["kind"] in storages and s["bytes"]])
    layers = []
    for layer in manifest["layers"]:
        part = next((k for k in ("program", "weights", "constants") if k in layer["mediaType"]))
        layers.append(named(layer, part))
    manifest["layers"] = layers
    named(manifest["config"], "config")
    index["manifests"] = [named(index["manifests"][0], "manifest")]
    with open(os.path.join(source, "oci-layout"), "rb") as f:
        layout = f.read()
    ordered = [layout, json.dumps(index).encode(), json.dumps(manifest).encode(), json.dumps(config).encode(), pack(program),
               parts["weights"], parts["constants"]]
    write("package", "some", b"".join(struct.pack("<I", len(x)) + x for x in ordered))


def exports():
    for model, name in (("weightless", "weightless.pt2"), ("shifted", "shifted.pt2")):
        with zipfile.ZipFile(os.path.join(ROOT, "models", model, name)) as source:
            path = os.path.join(HERE, "corpus", "pt2", model)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as out:
                for info in source.infolist():
                    data = source.read(info)
                    if info.filename.endswith("/models/model.json"):
                        document = json.loads(data)
                        graph = document["graph_module"]["graph"]
                        for node in graph["nodes"]:
                            node["metadata"] = {}
                        data = json.dumps(document, separators=(",", ":")).encode()
                    elif not ("/data/weights/" in info.filename or "/data/constants/" in info.filename):
                        continue
                    out.writestr(zipfile.ZipInfo(info.filename), data)


def data():
    f32 = struct.pack("<12f", *range(12))
    ids = struct.pack("<10q", *range(10))
    batch = safetensors([("input_ids", "I64", [2, 5], ids), ("labels", "I64", [2, 5], ids)])
    write("safetensors", "golden", safetensors([("loss", "F64", [], bytes(8)), ("grad.w", "F32", [4, 3], f32), ("in.x", "I64", [10], ids)],
                                               {"tied": "w,v"}))
    write("safetensors", "checkpoint", safetensors([("model.wte.weight", "BF16", [3, 2], f32[:12]), ("model.h.0.weight", "F16", [2, 2], f32[:8]),
                                                    ("model.empty", "BOOL", [0, 7], b"")], {"format": "pt"}))
    write("safetensors", "batch", batch)
    write("tokens", "batch", b"\x03" + batch)
    write("tokens", "bare", b"\x27" + struct.pack("<40H", *range(40)))
    write("tokens", "llmc", b"\x1f" + struct.pack("<3i", 20240520, 1, 12).ljust(1024, b"\0") + struct.pack("<12H", *range(12)))


def main():
    for kind in ("executor", "program", "package", "pt2", "safetensors", "tokens"):
        shutil.rmtree(os.path.join(HERE, "corpus", kind), ignore_errors=True)
    some = programs(sys.argv[1:])
    package(sys.argv[1], some)
    exports()
    data()


if __name__ == "__main__":
    main()
