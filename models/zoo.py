"""The project's own small models, each after a way in which real models are written: `python models/zoo.py [NAME...]`.

Makes models/NAME/NAME.pt2 and its float64 goldens (export.py says how they are laid out). Hidden size 32, vocabulary 64: the files stay
small, and sequence length, hidden size and vocabulary coincide on purpose (64), so that a length taken for another size shows.
"""
import json
import math
import os
import sys

import torch
import torch.nn as nn
import torch.nn.functional as F
from safetensors.torch import save_file

import export

V, D = 64, 32


def heads(x, n):
    """[B, S, n * d] -> [B, n, S, d]"""
    return x.view(x.size(0), x.size(1), n, -1).transpose(1, 2)


def merge(x):
    """[B, n, S, d] -> [B, S, n * d]"""
    return x.transpose(1, 2).flatten(2)


class MLP(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.up, self.down = nn.Linear(D, hidden), nn.Linear(hidden, D)

    def forward(self, x):
        return self.down(F.gelu(self.up(x)))


class GPTBlock(nn.Module):
    def __init__(self, n):
        super().__init__()
        self.n = n
        self.norm_1, self.qkv, self.proj = nn.LayerNorm(D), nn.Linear(D, 3 * D), nn.Linear(D, D)
        self.norm_2, self.mlp = nn.LayerNorm(D), MLP(4 * D)

    def forward(self, x):
        q, k, v = (heads(t, self.n) for t in self.qkv(self.norm_1(x)).split(D, dim=2))
        x = x + self.proj(merge(F.scaled_dot_product_attention(q, k, v, is_causal=True)))
        return x + self.mlp(self.norm_2(x))


class GPT(nn.Module):
    """Learned positions (a table of 64 rows), tied head, is_causal attention, labels already shifted, ignore_index -1."""
    ignore = -1

    def __init__(self, layers=2, block=64):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(V, D), nn.Embedding(block, D)
        self.blocks = nn.ModuleList(GPTBlock(4) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(D), nn.Linear(D, V, bias=False)
        self.tokens.weight = self.head.weight

    def forward(self, input_ids, labels):
        x = self.tokens(input_ids) + self.positions(torch.arange(input_ids.size(1), device=input_ids.device))
        for block in self.blocks:
            x = block(x)
        return F.cross_entropy(self.head(self.norm(x)).view(-1, V), labels.view(-1), ignore_index=-1)


class RMSNorm(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(D))

    def forward(self, x):
        wide = x.float()
        return self.weight * (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)).type_as(x)


def rotate(x, cos, sin):
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-b, a], dim=-1) * sin


class LlamaBlock(nn.Module):
    def __init__(self, n, kv):
        super().__init__()
        self.n, self.kv, d = n, kv, D // n
        self.norm_1, self.norm_2 = RMSNorm(), RMSNorm()
        self.q, self.k, self.v = (nn.Linear(D, m * d, bias=False) for m in (n, kv, kv))
        self.o = nn.Linear(D, D, bias=False)
        self.gate, self.up, self.down = nn.Linear(D, 80, bias=False), nn.Linear(D, 80, bias=False), nn.Linear(80, D, bias=False)

    def forward(self, x, cos, sin):
        y = self.norm_1(x)
        q, k, v = heads(self.q(y), self.n), heads(self.k(y), self.kv), heads(self.v(y), self.kv)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        k, v = (t[:, :, None].expand(-1, -1, self.n // self.kv, -1, -1).flatten(1, 2) for t in (k, v))
        x = x + self.o(merge(F.scaled_dot_product_attention(q, k, v, is_causal=True)))
        y = self.norm_2(x)
        return x + self.down(F.silu(self.gate(y)) * self.up(y))


class Llama(nn.Module):
    """Rotary positions from a frequency buffer under no_grad, grouped K and V, RMSNorm; the model shifts the labels itself (by pad)."""
    def __init__(self, layers=2):
        super().__init__()
        self.embed = nn.Embedding(V, D)
        self.blocks = nn.ModuleList(LlamaBlock(4, 2) for _ in range(layers))
        self.norm, self.head = RMSNorm(), nn.Linear(D, V, bias=False)
        self.register_buffer("frequency", 10000.0 ** (-torch.arange(0, 8, 2) / 8.0), persistent=False)

    @torch.no_grad()
    def rotation(self, length):
        angle = torch.outer(torch.arange(length, device=self.frequency.device), self.frequency)
        angle = torch.cat([angle, angle], dim=-1)
        return angle.cos(), angle.sin()

    def forward(self, input_ids, labels):
        x = self.embed(input_ids)
        cos, sin = self.rotation(input_ids.size(1))
        for block in self.blocks:
            x = block(x, cos, sin)
        logits = self.head(self.norm(x)).float()
        shifted = F.pad(labels, (0, 1), value=-100)[..., 1:].contiguous()
        return F.cross_entropy(logits.view(-1, V), shifted.view(-1))


class Wrapped(nn.Module):
    """One layer of Llama with a tied head, inside a wrapper: exported without weights, its names are the checkpoint's behind `model.`,
    the graph reads model.head.weight, and the checkpoint holds that tensor as embed.weight alone."""
    def __init__(self):
        super().__init__()
        self.model = Llama(layers=1)
        self.model.head.weight = self.model.embed.weight

    def forward(self, input_ids, labels):
        return self.model(input_ids, labels)


class Encoder(nn.Module):
    """Bidirectional attention written by hand, a position table of exactly 64 rows, a label on every third token: the last row counts."""
    def __init__(self):
        super().__init__()
        self.words, self.positions, self.norm = nn.Embedding(V, D), nn.Embedding(64, D), nn.LayerNorm(D)
        self.register_buffer("ids", torch.arange(64)[None], persistent=False)
        self.q, self.v, self.o = (nn.Linear(D, D) for _ in range(3))
        self.k = nn.Linear(D, D, bias=False)  # a key bias has gradient 0, of which float32 leaves noise that no one can compare
        self.norm_1, self.mlp, self.norm_2 = nn.LayerNorm(D), MLP(2 * D), nn.LayerNorm(D)
        self.head = nn.Linear(D, V)

    def inputs(self, batch, seq, generator):
        ids = torch.randint(0, V, (batch, seq), generator=generator)
        labels = torch.where(torch.arange(seq - 1, -1, -1) % 3 == 0, torch.randint(0, V, (batch, seq), generator=generator), -100)
        return {"input_ids": ids, "labels": labels}

    def forward(self, input_ids, labels):
        x = self.norm(self.words(input_ids) + self.positions(self.ids[:, :input_ids.size(1)]))
        q, k, v = heads(self.q(x), 4), heads(self.k(x), 4), heads(self.v(x), 4)
        weights = torch.softmax(q @ k.transpose(-2, -1) / math.sqrt(q.size(-1)), dim=-1)
        x = self.norm_1(x + self.o(merge(weights @ v)))
        x = self.norm_2(x + self.mlp(x))
        return F.cross_entropy(self.head(x).transpose(1, 2), labels)


class Window(nn.Module):
    """A sliding window of 16 tokens as a mask made from positions, -inf, softmax; 3 heads, which neither 2 nor 4 ranks divide."""
    window = 16

    def __init__(self):
        super().__init__()
        self.embed, self.positions = nn.Embedding(V, D), nn.Embedding(96, D)
        self.norm, self.qkv, self.o = nn.LayerNorm(D), nn.Linear(D, 72, bias=False), nn.Linear(24, D, bias=False)
        self.norm_2, self.mlp, self.norm_3 = nn.LayerNorm(D), MLP(2 * D), nn.LayerNorm(D)
        self.head = nn.Linear(D, V, bias=False)

    def forward(self, input_ids, labels):
        at = torch.arange(input_ids.size(1), device=input_ids.device)
        x = self.embed(input_ids) + self.positions(at)
        q, k, v = (heads(t, 3) for t in self.qkv(self.norm(x)).chunk(3, dim=-1))
        distance = at[:, None] - at[None, :]
        allowed = (distance >= 0) & (distance < self.window)
        scores = (q * q.size(-1) ** -0.5) @ k.transpose(-2, -1)
        weights = torch.softmax(scores.masked_fill(~allowed, float("-inf")), dim=-1)
        x = x + self.o(merge(weights @ v))
        x = x + self.mlp(self.norm_2(x))
        return F.cross_entropy(self.head(self.norm_3(x)).flatten(0, 1), labels.flatten())


class Shifted(nn.Module):
    """Logits and labels shifted by slices, norms without epsilon (a padding row of zeros would make NaN), a mask from a triu buffer."""
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(V, D)
        self.qkv, self.o = nn.Linear(D, 3 * D, bias=False), nn.Linear(D, D, bias=False)
        self.mlp, self.head = MLP(2 * D), nn.Linear(D, V, bias=False)
        self.scale = nn.Parameter(torch.ones(D))
        self.register_buffer("future", torch.triu(torch.ones(128, 128, dtype=torch.bool), 1))

    def unit(self, x):
        return x / x.norm(dim=-1, keepdim=True) * self.scale

    def forward(self, input_ids, labels):
        S = input_ids.size(1)
        x = self.embed(input_ids)
        q, k, v = (heads(t, 4) for t in self.qkv(self.unit(x)).split(D, dim=-1))
        scores = torch.matmul(q, k.transpose(2, 3)) * (1.0 / math.sqrt(q.size(-1)))
        weights = F.softmax(scores.masked_fill(self.future[:S, :S], float("-inf")), dim=-1)
        x = x + self.o(merge(torch.matmul(weights, v)))
        x = x + self.mlp(self.unit(x))
        logits = self.head(self.unit(x))
        return F.cross_entropy(logits[:, :-1].reshape(-1, V), labels[:, 1:].reshape(-1))


class Padded(nn.Module):
    """Key padding: an attention_mask input [B, S], whose zeros stand at the end of a row, and whose labels are ignored."""
    def __init__(self):
        super().__init__()
        self.embed, self.positions = nn.Embedding(V, D), nn.Embedding(96, D)
        self.norm, self.qkv, self.o = nn.LayerNorm(D), nn.Linear(D, 3 * D), nn.Linear(D, D)
        self.norm_2, self.mlp, self.head = nn.LayerNorm(D), MLP(2 * D), nn.Linear(D, V)

    def inputs(self, batch, seq, generator):
        made = export.default_inputs(batch, seq, generator, V)
        kept = torch.tensor([max(1, seq - row * (seq // 3)) for row in range(batch)])
        mask = (torch.arange(seq) < kept[:, None]).long()
        return {**made, "attention_mask": mask, "labels": made["labels"].masked_fill(mask == 0, -100)}

    def forward(self, input_ids, attention_mask, labels):
        x = self.embed(input_ids) + self.positions(torch.arange(input_ids.size(1), device=input_ids.device))
        q, k, v = (heads(t, 4) for t in self.qkv(self.norm(x)).split(D, dim=-1))
        keys = attention_mask[:, None, None, :].bool()
        x = x + self.o(merge(F.scaled_dot_product_attention(q, k, v, attn_mask=keys)))
        x = x + self.mlp(self.norm_2(x))
        return F.cross_entropy(self.head(x).view(-1, V), labels.view(-1))


class Frozen(nn.Module):
    """A frozen embedding, and a running mean that each step updates in place and the next step reads."""
    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(V, D)
        self.embed.weight.requires_grad_(False)
        self.block, self.norm, self.head = GPTBlock(4), nn.LayerNorm(D), nn.Linear(D, V, bias=False)
        self.register_buffer("mean", torch.zeros(D))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def forward(self, input_ids, labels):
        x = self.embed(input_ids)
        x = self.block(x - self.mean)
        self.mean.mul_(0.9).add_(x.detach().mean(dim=(0, 1)), alpha=0.1)
        self.seen.add_(1)
        return F.cross_entropy(self.head(self.norm(x)).view(-1, V), labels.view(-1))


class Batched(nn.Module):
    """Symbolic batch and length; the loss is a sum over tokens divided by sizes, which stay those of the whole batch and sequence."""
    def __init__(self):
        super().__init__()
        self.embed, self.positions = nn.Embedding(V, D), nn.Embedding(128, D)
        self.block, self.norm, self.head = GPTBlock(4), nn.LayerNorm(D), nn.Linear(D, V, bias=False)

    def logits(self, input_ids):
        x = self.block(self.embed(input_ids) + self.positions(torch.arange(input_ids.size(1), device=input_ids.device)))
        return self.head(self.norm(x))

    def forward(self, input_ids, labels):
        logits = self.logits(input_ids)
        total = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
        return total / (input_ids.size(0) * input_ids.size(1))


class Logged(Batched):
    """Returns further numbers beside the loss, in a dict: the share of labels that are guessed, and the mean entropy of the guesses."""
    def forward(self, input_ids, labels):
        logits = self.logits(input_ids)
        valid = labels != -100
        hits = ((logits.detach().argmax(-1) == labels) & valid).sum() / valid.sum()
        log_p = F.log_softmax(logits.detach(), -1)
        return {"loss": F.cross_entropy(logits.flatten(0, 1), labels.flatten()), "logits": logits,
                "metrics": {"accuracy": hits, "entropy": -(log_p.exp() * log_p).sum(-1).mean()}}


class Bytes(nn.Module):
    """A nanoGPT over the bytes of a text: learned positions, a tied head, dropout on embeddings, attention and residuals, labels already
    shifted, ignore_index -1. Small enough that two cores learn English spelling with it in half a minute."""
    def __init__(self, dropout=0.0, layers=2, width=64, heads=4, block=512):
        super().__init__()
        self.dropout, self.heads = dropout, heads
        self.tokens, self.positions = nn.Embedding(256, width), nn.Embedding(block, width)
        self.drop = nn.Dropout(dropout)
        self.layers = nn.ModuleList(nn.ModuleDict({
            "norm_1": nn.LayerNorm(width), "qkv": nn.Linear(width, 3 * width), "proj": nn.Linear(width, width),
            "norm_2": nn.LayerNorm(width), "up": nn.Linear(width, 4 * width), "down": nn.Linear(4 * width, width)}) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 256, bias=False)
        self.tokens.weight = self.head.weight

    def inputs(self, batch, seq, generator):
        return export.default_inputs(batch, seq, generator, 256, -1)

    def forward(self, input_ids, labels):
        x = self.drop(self.tokens(input_ids) + self.positions(torch.arange(input_ids.size(1), device=input_ids.device)))
        for layer in self.layers:
            q, k, v = (heads(t, self.heads) for t in layer["qkv"](layer["norm_1"](x)).chunk(3, dim=-1))
            x = x + self.drop(layer["proj"](merge(F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=self.dropout))))
            x = x + self.drop(layer["down"](F.gelu(layer["up"](layer["norm_2"](x)))))
        return F.cross_entropy(self.head(self.norm(x)).view(-1, 256), labels.view(-1), ignore_index=-1)


class Half(Llama):
    """Parameters of bfloat16 (make_model casts them), as a checkpoint is loaded with torch_dtype; rotation and loss in float32."""
    def rotation(self, length):
        return tuple(t.to(self.embed.weight.dtype) for t in super().rotation(length))


class Autocast(GPT):
    """Float32 parameters under autocast: the export says in a region what is cast where."""
    def forward(self, input_ids, labels):
        with torch.autocast("cpu", torch.bfloat16):
            return super().forward(input_ids, labels)


# Name: (class, lengths of the goldens, arguments of export.make_pair). Length 3 is shorter than the number of ranks.
MODELS = {
    "gpt": (GPT, (64, 61), dict(longest=64)),
    "llama": (Llama, (64, 61), {}),
    "encoder": (Encoder, (64, 61, 3), dict(longest=64)),
    "window": (Window, (64, 61), dict(longest=96)),
    "shifted": (Shifted, (64, 61, 3), dict(longest=128)),
    "padded": (Padded, (64, 61), dict(longest=96)),
    "frozen": (Frozen, (64, 61), {}),
    "half": (Half, (61,), {}),
    "autocast": (Autocast, (61,), dict(longest=64)),
    "logged": (Logged, (64, 61), dict(longest=128)),
    "batched": (Batched, (64, 61), dict(dynamic_batch=True, batch=2, batches=(3, 1))),
}


def make_model(name):
    """The model of a fixed seed, norms, biases and embeddings away from their trivial initial values, so that a wrong gradient shows."""
    torch.manual_seed(export.seed_of(name))
    model = Wrapped() if name == "weightless" else MODELS[name][0]()
    generator = torch.Generator().manual_seed(export.seed_of(name))
    if not hasattr(model, "inputs"):
        ignore = getattr(model, "ignore", -100)
        model.inputs = lambda batch, seq, g: export.default_inputs(batch, seq, g, V, ignore)
    with torch.no_grad():
        for key, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator)
            if p.dim() < 2:
                p.add_(0.1 * noise)
            else:
                p.copy_((0.3 if "embed" in key or "positions" in key else 0.8 / math.sqrt(p.size(-1))) * noise)
    if name == "half":
        for p in model.parameters():
            p.data = p.data.bfloat16()
    return model.train()


def without_weights(module):
    """The module with parameters that have names, shapes, dtypes and ties, and no data; its buffers keep theirs."""
    from torch._subclasses.fake_tensor import FakeTensorMode
    new = {}
    with FakeTensorMode():
        for m in module.modules():
            for name, p in m._parameters.items():
                if p is not None:
                    m._parameters[name] = new.setdefault(id(p), nn.Parameter(torch.empty(p.shape, dtype=p.dtype), p.requires_grad))
    return module


def make_weightless(here):
    """weightless.pt2, its golden, and a checkpoint of two shards, an index and a config as Hugging Face writes them. untied.pt2 is the
    same model with the tie lost, as where it was built empty, its head a parameter of its own."""
    folder = os.path.join(here, "weightless")
    os.makedirs(os.path.join(folder, "checkpoint"), exist_ok=True)
    model = make_model("weightless")
    inputs = export.make_inputs(model, "weightless", 2, 61)
    program = export.export_program(without_weights(make_model("weightless")), inputs, 61)
    export.save_program(program, os.path.join(folder, "weightless.pt2"), os.path.dirname(here), frames=1)
    untied = make_model("weightless")
    untied.model.head.weight = nn.Parameter(untied.model.head.weight.detach().clone())
    export.save_program(export.export_program(without_weights(untied), inputs, 61), os.path.join(folder, "untied.pt2"),
                        os.path.dirname(here), frames=1)
    tensors = {name.removeprefix("model."): p.detach().contiguous() for name, p in model.named_parameters()}
    names, index = sorted(tensors), {}
    for shard, part in enumerate((names[:5], names[5:]), 1):
        file = f"model-{shard:05d}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, os.path.join(folder, "checkpoint", file), metadata={"format": "pt"})
        index.update({name: file for name in part})
    size = sum(t.numel() * t.element_size() for t in tensors.values())
    with open(os.path.join(folder, "checkpoint", "model.safetensors.index.json"), "w") as f:
        json.dump({"metadata": {"total_size": size}, "weight_map": index}, f, indent=1)
    with open(os.path.join(folder, "checkpoint", "config.json"), "w") as f:
        json.dump({"model_type": "llama", "tie_word_embeddings": True, "vocab_size": V}, f, indent=1)
    export.golden(model, inputs, os.path.join(folder, "weightless.golden_s61.safetensors"))


def make_bytes(here):
    """bytes.pt2, without weights, of any length up to 512 and any batch: what `./dev demo` trains from a seeded initialisation."""
    model = Bytes()
    program = export.export_program(without_weights(model), export.make_inputs(Bytes(), "bytes", 4, 128), 128, 512, dynamic_batch=True)
    os.makedirs(os.path.join(here, "bytes"), exist_ok=True)
    export.save_program(program, os.path.join(here, "bytes", "bytes.pt2"), os.path.dirname(here), frames=1)


def make_decomposed(here, name):
    """NAME.decomposed.pt2: the same model after run_decompositions({}), as other tools hand it on. The goldens hold for it too."""
    model = make_model(name)
    program = export.export_program(model, export.make_inputs(model, name, 2, 64), 64, MODELS[name][2].get("longest", 4096))
    path = os.path.join(here, name, name + ".decomposed.pt2")
    export.save_program(program.run_decompositions({}), path, os.path.dirname(here), frames=1)


def make_empty_shard(here):
    """A Llama golden whose labels are all ignored past token 14: from 4 ranks on, most shards hold no valid label."""
    model = make_model("llama")
    inputs = export.make_inputs(model, "llama", 2, 61)
    inputs["labels"][:, 15:] = -100
    export.golden(model, inputs, os.path.join(here, "llama", "llama.golden_s61_few_labels.safetensors"))


def main():
    here = os.path.dirname(os.path.abspath(__file__))
    if not sys.argv[1:]:
        make_weightless(here)
        make_bytes(here)
    for name in sys.argv[1:] or MODELS:
        _, lengths, options = MODELS[name]
        export.make_pair(lambda: make_model(name), name, os.path.join(here, name), lengths=lengths, root=os.path.dirname(here), frames=1,
                         **options)
    if not sys.argv[1:]:
        make_decomposed(here, "gpt")
        make_decomposed(here, "llama")
        make_empty_shard(here)


if __name__ == "__main__":
    main()
