"""Makes (.pt2, golden) pairs of any torch.nn.Module whose forward returns the loss, alone or as "loss" in a dict.

    python models/export.py PACKAGE.MODULE:FACTORY -o DIR [--name NAME] [--batch 2] [--seq 64 61] [--dynamic-batch] [--vocab 64]

FACTORY() gives the module. Where the module has a method `inputs(batch, seq, generator)`, that gives forward's arguments as a dict of
tensors; else `input_ids` and `labels` are drawn below --vocab, one label in ten ignored (-100). Written are

    DIR/NAME.pt2                     torch.export of the training graph with its weights; dim 1 of each input that has the length
                                     there is symbolic (with the most general Dim that torch.export accepts), dim 0 too on request
    DIR/NAME.golden_sS.safetensors   for each length S: in.<input>, loss [] and grad.<parameter> of one device in eager float64.
                                     The header's "tied" lists parameter names that share another's tensor, "outputs" (JSON)
                                     further scalars that forward returns.

Needs torch 2.11 and safetensors.
"""
import argparse
import importlib
import inspect
import json
import os
import re
import sys
import zlib

import torch
from torch.utils._python_dispatch import TorchDispatchMode

NARROW = (torch.float32, torch.float16, torch.bfloat16)


class AllFloat64(TorchDispatchMode):
    """Casts that a model makes to narrower floating types go to float64, so that the reference is float64 throughout."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if kwargs.get("dtype") in NARROW:
            kwargs["dtype"] = torch.float64
        return func(*args, **kwargs)


def seed_of(name):
    return zlib.crc32(name.encode()) & 0x7FFFFFFF


def default_inputs(batch, seq, generator, vocab, ignore=-100):
    """Token ids and labels [batch, seq]; one label in ten is ignored."""
    ids = torch.randint(0, vocab, (batch, seq), generator=generator)
    labels = torch.randint(0, vocab, (batch, seq), generator=generator)
    return {"input_ids": ids, "labels": labels.masked_fill(torch.rand(batch, seq, generator=generator) < 0.1, ignore)}


def make_inputs(module, name, batch, seq, vocab=64):
    """forward's arguments by name, in forward's order. They depend on the name and the length alone."""
    generator = torch.Generator().manual_seed(seed_of(name) ^ seq)
    if hasattr(module, "inputs"):
        made = module.inputs(batch, seq, generator)
    else:
        made = default_inputs(batch, seq, generator, vocab)
    order = [p for p in inspect.signature(module.forward).parameters if p in made]
    if sorted(order) != sorted(made):
        raise SystemExit(f"{name}: inputs() gives {sorted(made)}, forward takes {list(inspect.signature(module.forward).parameters)}")
    return {p: made[p] for p in order}


def dynamic_shapes(inputs, seq, dim, dynamic_batch):
    shapes = {}
    for name, tensor in inputs.items():
        dims = {1: dim} if tensor.dim() > 1 and tensor.size(1) == seq else {}
        if dynamic_batch and tensor.dim() > 0:
            dims[0] = torch.export.Dim.AUTO
        shapes[name] = dims or None
    return shapes


def export_program(module, inputs, seq, longest=4096, dynamic_batch=False):
    """The exported training graph, symbolic in the sequence dim as far as torch.export accepts it."""
    Dim = torch.export.Dim
    candidates = [Dim.AUTO] if dynamic_batch else [Dim("seq", min=2, max=longest), Dim.DYNAMIC, Dim.AUTO]
    for dim in candidates:
        try:
            return torch.export.export(module, (), inputs, strict=False,
                                       dynamic_shapes=dynamic_shapes(inputs, seq, dim, dynamic_batch))
        except Exception as error:
            print(f"  {dim}: {str(error).splitlines()[0][:120]}", file=sys.stderr)
    raise SystemExit("torch.export accepts no symbolic sequence dim for this module")


def tidy(model_json, root, frames):
    """The graph's JSON without paths of this machine: sources are told from their package or from `root` on.

    `frames` > 0 makes a small file: of each stack trace it keeps that many innermost frames outside PyTorch, and it drops the
    metadata that no reader uses."""
    text = re.sub(r'/[^" ]*?/site-packages/', "", model_json.decode())
    text = text.replace(os.path.join(root, ""), "")
    if frames <= 0:
        return text.encode()

    def shorten(value):
        if isinstance(value, dict):
            metadata = value.get("metadata")
            if isinstance(metadata, dict) and "stack_trace" in metadata:
                trace = re.split(r"(?m)^(?= *File )", metadata["stack_trace"])
                own = [frame for frame in trace if frame.strip() and 'File "torch/' not in frame] or trace
                value["metadata"] = {"stack_trace": "".join(own[-frames:]),
                                     **{k: v for k, v in metadata.items() if k == "nn_module_stack"}}
            return {k: shorten(v) for k, v in value.items()}
        return [shorten(v) for v in value] if isinstance(value, list) else value

    return json.dumps(shorten(json.loads(text)), separators=(",", ":")).encode()


def save_program(program, path, root=None, frames=0):
    """torch.export.save, then the archive once more with its JSON tidied; equal programs give equal bytes."""
    raw = path + ".raw.pt2"
    torch.export.save(program, raw)
    reader, writer = torch._C.PyTorchFileReader(raw), torch._C.PyTorchFileWriter(path)
    for record in reader.get_all_records():
        if record in ("version", "byteorder", ".data/serialization_id", ".data/version"):
            continue  # the writer adds these itself
        data = bytes(reader.get_record(record))
        if record.endswith("model.json"):
            data = tidy(data, root or os.getcwd(), frames)
        writer.write_record(record, data, len(data))
    writer.write_end_of_file()
    os.remove(raw)


def loss_of(returned):
    """The loss among what forward returns: the tensor itself, or "loss" in a dict."""
    return returned["loss"] if isinstance(returned, dict) else returned


def scalars_of(returned, path=""):
    """The other numbers that forward returns, by the keys that lead to them, joined by dots."""
    if isinstance(returned, dict):
        return {k: v for key, value in returned.items() for k, v in scalars_of(value, f"{path}.{key}" if path else key).items()}
    return {path: returned.item()} if path and path != "loss" and returned.dim() == 0 else {}


def golden(module, inputs, path):
    """Loss and every gradient of `module` on one device, in eager float64."""
    from safetensors.torch import save_file
    module = module.double()
    to64 = {k: v.double() if v.is_floating_point() else v for k, v in inputs.items()}
    with AllFloat64():
        returned = module(**to64)
        loss = loss_of(returned)
        loss.backward()
    tensors = {"in." + k: v.contiguous().clone() for k, v in inputs.items()}  # inputs may be views of one text
    tensors["loss"] = loss.detach().double()
    for name, p in module.named_parameters():
        if p.requires_grad:
            tensors["grad." + name] = (torch.zeros_like(p) if p.grad is None else p.grad).contiguous()
    tied = [n for n, p in module.named_parameters(remove_duplicate=False) if p.requires_grad and "grad." + n not in tensors]
    outputs = scalars_of(returned)
    save_file(tensors, path, metadata={"tied": ",".join(tied), "torch": torch.__version__, "dtype": "float64",
                                       **({"outputs": json.dumps(outputs)} if outputs else {})})
    os.chmod(path, 0o644)
    return loss.item()


def float32_error(module, inputs, path):
    """The worst gradient error of eager float32 against the golden at `path`, as autosp-run defines it: what can be asked of others."""
    from safetensors.torch import load_file
    reference = {k[5:]: v for k, v in load_file(path).items() if k.startswith("grad.")}
    loss_of(module(**inputs)).backward()
    least = 1e-4 * torch.sqrt(sum(r.square().sum() for r in reference.values()))
    got = {k: torch.zeros_like(p) if p.grad is None else p.grad for k, p in module.named_parameters() if k in reference}
    return max(((g.double() - reference[k]).norm() / max(reference[k].norm(), least)).item() for k, g in got.items())


def make_pair(factory, name, folder, batch=2, lengths=(64, 61), dynamic_batch=False, batches=None, vocab=64, root=None, frames=0,
              longest=4096):
    """NAME.pt2 and one golden a length; `batches` gives the golden of each length another batch than the export's."""
    os.makedirs(folder, exist_ok=True)
    module = factory().train()
    program = export_program(module, make_inputs(module, name, batch, lengths[0], vocab), lengths[0], longest, dynamic_batch)
    save_program(program, os.path.join(folder, name + ".pt2"), root, frames)
    for seq, rows in zip(lengths, batches or [batch] * len(lengths)):
        module = factory().train()
        inputs, path = make_inputs(module, name, rows, seq, vocab), os.path.join(folder, f"{name}.golden_s{seq}.safetensors")
        loss = golden(module, inputs, path)
        error = float32_error(factory().train(), inputs, path)
        print(f"{name}: S = {seq}, batch {rows}: loss {loss:.9f}; eager float32 is within {error:.1e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("factory", metavar="PACKAGE.MODULE:FACTORY")
    parser.add_argument("-o", "--out", required=True, metavar="DIR")
    parser.add_argument("--name", help="default: FACTORY in lower case")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--seq", type=int, nargs="+", default=[64, 61], help="the first is the export's example, too")
    parser.add_argument("--longest", type=int, default=4096, help="upper bound of a named sequence dim")
    parser.add_argument("--dynamic-batch", action="store_true")
    parser.add_argument("--vocab", type=int, default=64)
    parser.add_argument("--seed", type=int, default=0, help="of the weights")
    parser.add_argument("--frames", type=int, default=0, help="keep only so many frames of each stack trace (0: all)")
    a = parser.parse_args()
    sys.path.insert(0, os.getcwd())
    module, _, attribute = a.factory.partition(":")
    make = getattr(importlib.import_module(module), attribute)

    def seeded():
        torch.manual_seed(a.seed)
        return make()

    make_pair(seeded, a.name or attribute.lower(), a.out, a.batch, a.seq, a.dynamic_batch, None, a.vocab, frames=a.frames,
              longest=a.longest)


if __name__ == "__main__":
    main()
