"""check_layers.py [ROOT]: holds every include under ROOT to the table of layers, and every file to a list of forbidden words.

One line a violation, exit 1 if there is any. `--self-test` plants one violation of each kind into a copy of a small clean tree and
fails unless exactly that one is reported; it also fails if a clean tree is not reported clean."""
import os
import re
import sys
import tempfile

# Folder, longest match first: (project folders it may include, third parties it may include). The standard library and POSIX are free.
RUNTIME = ["runtime"]
LOWER = ["runtime/base", "passes", "runtime/package", "codegen"]
EVERYTHING = ["runtime", "passes", "codegen", "compiler", "cli", "tests"]
LIBRARIES = ["fmt", "boost", "flatbuffers", "nlohmann", "torch", "gloo", "openssl", "gtest", "benchmark"]
LAYERS = {
    "runtime/base": (["runtime/base"], ["fmt", "nlohmann", "openssl"]),
    "passes/ir": (["runtime/base", "passes/ir"], ["fmt"]),
    "passes": (["runtime/base", "passes"], ["fmt", "boost"]),
    "runtime/package": (["runtime/base", "runtime/package"], ["fmt", "flatbuffers", "nlohmann", "openssl"]),
    "runtime/data": (["runtime/base", "runtime/package", "runtime/data"], ["fmt", "flatbuffers", "nlohmann"]),
    "runtime/checkpoint": (["runtime/base", "runtime/package", "runtime/checkpoint"], ["fmt", "flatbuffers", "nlohmann", "openssl"]),
    "codegen": (LOWER, ["fmt", "flatbuffers", "nlohmann", "openssl"]),
    "compiler": (LOWER + ["runtime/outvariant", "compiler"], LIBRARIES),
    "runtime/metrics": (["runtime/base", "runtime/package", "runtime/metrics"], ["fmt", "boost", "flatbuffers", "nlohmann"]),
    "runtime/cuda": (["runtime/base", "runtime/dist", "runtime/cuda"], LIBRARIES + ["cuda"]),  # loaded where there is a GPU
    "runtime": (RUNTIME, LIBRARIES),
    "cli/flags": (["runtime/base", "cli/flags.h"], ["fmt", "boost"]),
    "cli/autosp_run": (RUNTIME + ["cli/flags.h", "cli/autosp_run"], LIBRARIES),  # the program that ships to the ranks holds no compiler code
    "cli": (EVERYTHING[:-1], LIBRARIES),
    "tests": (EVERYTHING, LIBRARIES),
}
CUDA = r"((ATen|c10|torch/csrc)/cuda/|torch/csrc/distributed/c10d/ProcessGroupNCCL|cuda|nccl)"
THIRD_PARTY = [("cuda", CUDA), ("torch", r"(ATen|c10|torch|caffe2)/"), ("fmt", r"fmt/"), ("boost", r"boost/"), ("flatbuffers", r"flatbuffers/"),
               ("nlohmann", r"nlohmann/"), ("gloo", r"gloo/"), ("openssl", r"openssl/"), ("gtest", r"g(test|mock)/"),
               ("benchmark", r"benchmark/")]
# Spelt so that this file does not hold them.
FORBIDDEN = [re.compile(p) for p in (rb"/wor[k]/", rb"/roo[t]/", rb"\.librar[y]/", rb"\bsubagen[t]", rb"helper agen[t]")]
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"])([^">]+)[">]')
SOURCE = (".cc", ".h", ".cpp", ".hpp", ".cu", ".cuh")


def under(path, folder):
    return path == folder or path.startswith(folder + "/") or (folder in ("cli/autosp_run", "cli/flags") and path.startswith(folder))


def layer_of(path):
    fitting = [folder for folder in LAYERS if under(path, folder)]
    return max(fitting, key=len) if fitting else None


def why_not(path, include):
    """The reason why the file `path` may not hold `#include include`, or None."""
    layer = layer_of(path)
    if layer is None:
        return "its folder is in no layer"
    folders, libraries = LAYERS[layer]
    if any(under(include, top) for top in EVERYTHING):
        return None if any(under(include, f) for f in folders) else f"{layer} may include only {', '.join(folders)}"
    for library, pattern in THIRD_PARTY:
        if re.match(pattern, include) and library not in libraries:
            return f"{layer} may not see {library}"
    return None


def files_of(root):
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(f for f in folders if f not in (".git", "build", "__pycache__") and not f.startswith("build-"))
        for name in sorted(names):
            yield os.path.relpath(os.path.join(folder, name), root)


def check(root):
    found = []
    for path in files_of(root):
        full = os.path.join(root, path)
        if os.path.islink(full):
            continue
        with open(full, "rb") as f:
            data = f.read()
        for pattern in FORBIDDEN:
            hit = pattern.search(data)
            if hit:
                found.append(f"{path}:{data.count(chr(10).encode(), 0, hit.start()) + 1}: forbidden text {hit.group().decode()!r}")
        if path.endswith(SOURCE):
            for number, line in enumerate(data.decode("utf-8", "replace").splitlines(), 1):
                hit = INCLUDE.match(line)
                reason = hit and why_not(path, hit.group(2))
                if reason:
                    found.append(f"{path}:{number}: includes {hit.group(2)}: {reason}")
    return found


def self_test():
    clean = {"runtime/base/a.h": '#include <fmt/format.h>\n', "passes/ir/b.h": '#include "runtime/base/a.h"\n',
             "passes/memory/c.cc": '#include <boost/graph/graph_traits.hpp>\n#include "passes/ir/b.h"\n',
             "codegen/d.cc": '#include "passes/memory/c.h"\n#include "runtime/package/p.h"\n',
             "compiler/e.cc": '#include <ATen/core/Tensor.h>\n#include "codegen/d.h"\n',
             "runtime/cuda/i.cc": '#include <c10/cuda/CUDAStream.h>\n#include <cuda_runtime_api.h>\n#include "runtime/base/a.h"\n',
             "runtime/exec/f.cc": '#include <ATen/core/Tensor.h>\n#include "runtime/package/p.h"\n',
             "cli/autosp_run.cc": '#include "runtime/exec/f.h"\n', "cli/autospc.cc": '#include "compiler/e.h"\n',
             "tests/e2e/g_test.cc": '#include <gtest/gtest.h>\n#include "compiler/e.h"\n', "README.md": "text\n"}
    plants = [("passes/memory/c.cc", '#include "codegen/d.h"\n'), ("passes/memory/c.cc", '#include "compiler/e.h"\n'),
              ("passes/memory/c.cc", '#include "runtime/package/p.h"\n'), ("passes/memory/c.cc", "#include <c10/core/Scalar.h>\n"),
              ("passes/ir/b.h", '#include "passes/memory/c.h"\n'), ("passes/ir/b.h", "#include <boost/any.hpp>\n"),
              ("runtime/base/a.h", '#include "passes/ir/b.h"\n'), ("runtime/base/a.h", "#include <torch/library.h>\n"),
              ("codegen/d.cc", '#include "compiler/e.h"\n'), ("codegen/d.cc", "#  include <ATen/ATen.h>\n"),
              ("codegen/d.cc", '#include "runtime/exec/f.h"\n'), ("runtime/exec/f.cc", '#include "passes/ir/b.h"\n'),
              ("runtime/exec/f.cc", '#include "compiler/e.h"\n'), ("cli/autosp_run.cc", '#include "compiler/e.h"\n'),
              ("compiler/e.cc", '#include "runtime/exec/f.h"\n'), ("compiler/e.cc", '#include "cli/autospc.h"\n'),
              ("runtime/exec/f.cc", "#include <ATen/cuda/CUDAContext.h>\n"), ("compiler/e.cc", "#include <cuda_runtime_api.h>\n"),
              ("runtime/cuda/i.cc", '#include "runtime/exec/f.h"\n'), ("extras/h.cc", '#include "passes/ir/b.h"\n'), ("README.md", "see /wor" + "k/notes\n"), ("README.md", "/roo" + "t/x\n")]
    wrong = []
    for path, line in [(None, None)] + plants:
        with tempfile.TemporaryDirectory() as root:
            for name, text in clean.items():
                os.makedirs(os.path.dirname(os.path.join(root, name)), exist_ok=True)
                with open(os.path.join(root, name), "w") as f:
                    f.write(text)
            if path:
                os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
                with open(os.path.join(root, path), "a") as f:
                    f.write(line)
            found = check(root)
            if len(found) != (1 if path else 0) or (path and not found[0].startswith(path + ":")):
                wrong.append(f"planted {line!r} in {path}: reported {found}")
    return wrong


if __name__ == "__main__":
    if "--self-test" in sys.argv[1:]:
        problems = self_test()
        summary = "the layer check reports what is planted, and only that"
    else:
        problems = check(sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        summary = "every include follows the layers"
    print("\n".join(problems) if problems else summary)
    sys.exit(1 if problems else 0)
