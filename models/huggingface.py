"""From a Hugging Face checkpoint of a causal language model to what autospc takes, and back.

    python models/huggingface.py export CHECKPOINT -o MODEL.pt2             the training graph, without weights
    python models/huggingface.py tokens CHECKPOINT TEXT... -o TOKENS.bin    texts as one token file, by the checkpoint's tokenizer
    python models/huggingface.py loss CHECKPOINT TOKENS.bin --seq-len S     transformers' own mean loss of stretches of S tokens

The export's inputs are input_ids and labels [1, S], S symbolic, and it shifts the labels itself, as transformers does. Its
weights stay in the checkpoint: `autospc compile --weights CHECKPOINT` takes them by name. So nothing here needs the memory of the
model but `loss`. Token ids are 16-bit where the vocabulary allows it, else 32-bit (autosp-run --token-dtype).

Needs torch 2.11, transformers and accelerate; `tokens` needs transformers alone.
"""
import argparse
import os

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # CHECKPOINT is a folder


def without_data(module):
    """Makes every parameter one without data, tied ones still one; buffers keep theirs, which no checkpoint may hold."""
    import torch
    from torch._subclasses.fake_tensor import FakeTensorMode
    empty = {}
    with FakeTensorMode():
        for part in module.modules():
            for name, p in part._parameters.items():
                if p is not None and id(p) not in empty:
                    empty[id(p)] = torch.nn.Parameter(torch.empty(p.shape, dtype=p.dtype), p.requires_grad)
                if p is not None:
                    part._parameters[name] = empty[id(p)]


def export(checkpoint, path):
    import torch
    from accelerate import init_empty_weights
    from transformers import AutoConfig, AutoModelForCausalLM

    from export import save_program

    config = AutoConfig.from_pretrained(checkpoint)
    with init_empty_weights(include_buffers=False):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="sdpa")
    model.tie_weights()  # what was made without data has lost that head and embedding are one
    without_data(model)
    whole = model.forward
    model.forward = lambda input_ids, labels: whole(input_ids=input_ids, labels=labels, use_cache=False).loss
    ids = torch.zeros(1, 256, dtype=torch.long)
    dims = {1: torch.export.Dim.AUTO}
    program = torch.export.export(model.train(), (ids, ids.clone()), strict=False,
                                  dynamic_shapes={"input_ids": dims, "labels": dims})
    save_program(program, path)
    print(f"{path}: {len(program.graph.nodes)} nodes, {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters without data")


def token_type(checkpoint):
    import numpy
    from transformers import AutoConfig
    return numpy.uint16 if AutoConfig.from_pretrained(checkpoint).vocab_size <= 1 << 16 else numpy.uint32


def tokens(checkpoint, texts, path):
    import numpy
    from transformers import AutoTokenizer
    tokenizer = AutoTokenizer.from_pretrained(checkpoint, model_max_length=1 << 60)  # no warning of long texts
    ids = []
    for text in texts:
        with open(text, errors="replace") as f:
            ids += tokenizer(f.read()).input_ids
    numpy.array(ids, token_type(checkpoint)).tofile(path)
    print(f"{path}: {len(ids)} tokens")


def loss(checkpoint, path, seq_len):
    import numpy
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging
    logging.disable_progress_bar()
    ids = torch.from_numpy(numpy.fromfile(path, token_type(checkpoint)).astype(numpy.int64))
    model = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.float32).eval()
    total, count = 0.0, 0
    with torch.no_grad():
        for start in range(0, len(ids) - seq_len + 1, seq_len):
            piece = ids[None, start:start + seq_len]
            total += model(input_ids=piece, labels=piece, use_cache=False).loss.item()
            count += 1
    if count == 0:
        raise SystemExit(f"{path}: {len(ids)} tokens are less than {seq_len}")
    print(f"transformers' loss of {count} x {seq_len} tokens: {total / count:.6f}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("export", "tokens", "loss"):
        command = commands.add_parser(name)
        command.add_argument("checkpoint", metavar="CHECKPOINT", help="a folder with config.json")
        if name == "tokens":
            command.add_argument("texts", nargs="+", metavar="TEXT")
        if name == "loss":
            command.add_argument("tokens", metavar="TOKENS.bin")
            command.add_argument("--seq-len", type=int, required=True, metavar="S")
        else:
            command.add_argument("-o", "--out", required=True, metavar="FILE")
    a = parser.parse_args()
    if not os.path.isfile(os.path.join(a.checkpoint, "config.json")):
        parser.error(f"{a.checkpoint}: no config.json there; CHECKPOINT is a folder as save_pretrained writes it")
    if a.command == "export":
        export(a.checkpoint, a.out)
    elif a.command == "tokens":
        tokens(a.checkpoint, a.texts, a.out)
    else:
        loss(a.checkpoint, a.tokens, a.seq_len)


if __name__ == "__main__":
    main()
