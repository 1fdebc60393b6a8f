"""Counts the bytes that a LoRA step in PyTorch saves for its backward pass. Writes bench/results/peft-saved.json.

Usage: python bench/peft-saved.py

Needs torch, transformers and peft, but no GPU and no weights: everything runs on the meta device, where shapes and
the autograd graph are real but no numbers are computed. Every storage that autograd saves in the forward pass counts
once, except parameters. GB are 1e9 bytes. Two choices of a CUDA device have to be made explicitly on the meta device:

- dropout is native_dropout, which CUDA uses (its mask has one byte per element, not a float);
- "fused" attention is the op that scaled_dot_product_attention chooses on a CUDA device: memory-efficient attention
  in f32, flash attention in f16. If the installed torch has no meta kernel for it, the row's savedBytes are null.
"""

import json
import pathlib
import sys

import peft
import torch
import transformers
from transformers import AttentionInterface

ROOT = pathlib.Path(__file__).parent
RANK, DROPOUT = 4, 0.1
CASES = [
    # name, batch, length, dtypes of base and adapters, target modules, task, largest number of frozen layers
    ("bert-large", 32, 128, "float32", "float32", ["query", "value"], "SEQ_CLS", 22),
    ("roberta-large", 16, 384, "float32", "float32", ["query", "value"], "SEQ_CLS", 22),
    ("gpt2-medium", 8, 512, "float32", "float32", ["c_attn"], "CAUSAL_LM", 22),
    ("llama-2-7b", 2, 512, "float16", "float16", ["q_proj", "v_proj"], "CAUSAL_LM", 29),
    # PEFT's default for a base in 16 bits: adapters in f32, and therefore their inputs too.
    ("llama-2-7b", 2, 512, "float16", "float32", ["q_proj", "v_proj"], "CAUSAL_LM", 29),
]


def native_dropout(x, p=0.5, training=True, inplace=False):
    return torch.native_dropout(x, p, True)[0] if training and p > 0 else x


def fused(module, query, key, value, attention_mask, scaling=None, dropout=0.0, **_):
    """Attention in one op, on [batch, heads, length, head size], without a mask, since no row is padded."""
    causal = bool(getattr(module, "is_causal", False))
    groups = query.shape[1] // key.shape[1]
    key, value = (t.repeat_interleave(groups, 1) if groups > 1 else t for t in (key, value))
    if query.dtype == torch.float32:
        op = torch.ops.aten._scaled_dot_product_efficient_attention
        out = op(query, key, value, None, True, dropout, causal, scale=scaling)[0]
    else:
        op = torch.ops.aten._scaled_dot_product_flash_attention
        out = op(query, key, value, dropout, causal, False, scale=scaling)[0]
    return out.transpose(1, 2), None


def build(name, dtype, adapter_dtype, targets, task, attention):
    values = json.loads((ROOT / "configs" / f"{name}.json").read_text())
    config = transformers.AutoConfig.for_model(**values)
    config._attn_implementation = attention
    architecture = getattr(transformers, values["architectures"][0])
    lora = peft.LoraConfig(r=RANK, lora_alpha=16, lora_dropout=DROPOUT, target_modules=targets, task_type=task,
                           fan_in_fan_out=name.startswith("gpt2"))
    with torch.device("meta"):
        model = peft.get_peft_model(architecture(config).to(getattr(torch, dtype)), lora).train()
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(getattr(torch, adapter_dtype))
    return model


def layer_of(name):
    parts = name.split(".")
    return next((int(part) for part in parts if part.isdigit()), None)


def freeze_below(model, layer):
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.requires_grad = layer_of(name) >= layer


def saved_bytes(model, batch, length, task):
    """Bytes of the storages that a forward pass saves. They are kept alive until counted, so that addresses are unique."""
    parameters = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    saved = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage._cdata not in parameters:
            saved[storage._cdata] = storage
        return tensor

    ids = torch.zeros(batch, length, dtype=torch.long, device="meta")
    labels = ids if task == "CAUSAL_LM" else torch.zeros(batch, dtype=torch.long, device="meta")
    options = {}
    if task == "CAUSAL_LM":
        # A cache would be a second copy of keys and values. The mask is passed in, since transformers would compute it
        # from the values of positions, which do not exist on the meta device.
        mask = torch.zeros(batch, 1, length, length, dtype=model.dtype, device="meta")
        options = {"use_cache": False, "attention_mask": mask}
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(input_ids=ids, labels=labels, **options)
    return sum(storage.nbytes() for storage in saved.values())


def weight_bytes(model):
    return sum(storage.nbytes() for storage in
               {p.untyped_storage()._cdata: p.untyped_storage() for p in model.parameters()}.values())


def closed_form(config, batch, length, size, live):
    """Saved bytes of `live` layers with eager attention, summed over the ops. e: bytes per element; d, f, q: elements of
    the hidden states, of the feed-forward's activations and of the attention scores."""
    get = lambda *names: next(getattr(config, name) for name in names if getattr(config, name, None) is not None)
    tokens, width = batch * length, get("hidden_size", "n_embd")
    d, q = tokens * width, batch * get("num_attention_heads", "n_head") * length * length
    f = tokens * (getattr(config, "intermediate_size", None) or 4 * width)
    e, vocabulary = size, 4 * tokens * config.vocab_size
    if config.model_type == "gpt2":
        return live * (d * (6 * e + 3) + 4 * f * e + q * (2 * e + 1) + tokens * (16 + RANK * e)) + vocabulary
    if config.model_type == "llama":
        scores = q * (4 + (e if e < 4 else 0))
        return live * (d * (10 + 5 * e) + 3 * f * e + scores + tokens * (8 + 2 * RANK * e)) + vocabulary
    return live * (d * (7 * e + 4) + f * e + q * (2 * e + 1) + tokens * (16 + 2 * RANK * e))


def count(case):
    name, batch, length, dtype, adapter_dtype, targets, task, most = case
    rows = []
    for attention in ("eager", "fused"):
        model = build(name, dtype, adapter_dtype, targets, task, attention)
        layers = model.config.num_hidden_layers
        weights = weight_bytes(model)
        for frozen in (0, layers // 2, most):
            freeze_below(model, frozen)
            row = {"name": name, "batch": batch, "length": length, "dtype": dtype, "adapterDtype": adapter_dtype,
                   "attention": attention, "frozenLayers": frozen, "layers": layers, "weightBytes": weights}
            try:
                row["savedBytes"] = saved_bytes(model, batch, length, task)
            except NotImplementedError as error:
                row |= {"savedBytes": None, "why": str(error).split("\n")[0]}
            if attention == "eager" and adapter_dtype == dtype:
                size = torch.finfo(getattr(torch, dtype)).bits // 8
                row["closedFormBytes"] = closed_form(model.config, batch, length, size, layers - frozen)
            rows.append(row)
            show(row)
    return rows


def gigabytes(value):
    return "-" if value is None else f"{value / 1e9:.3f}"


def show(row):
    saved, weights = row["savedBytes"], row["weightBytes"]
    cells = [row["name"], f"adapters {row['adapterDtype']}", row["attention"],
             f"{row['frozenLayers']} of {row['layers']} frozen", f"weights {gigabytes(weights)}",
             f"saved {gigabytes(saved)}", f"closed form {gigabytes(row.get('closedFormBytes'))}",
             f"together {gigabytes(saved and saved + weights)}", row.get("why", "")]
    print(" | ".join(cells), flush=True)


torch.nn.functional.dropout = native_dropout
AttentionInterface.register("fused", fused)
result = {
    "versions": {"python": sys.version.split()[0], "torch": torch.__version__,
                 "transformers": transformers.__version__, "peft": peft.__version__},
    "rank": RANK,
    "loraDropout": DROPOUT,
    "results": [row for case in CASES for row in count(case)],
}
(ROOT / "results" / "peft-saved.json").write_text(json.dumps(result, indent=1) + "\n")
