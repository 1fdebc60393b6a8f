"""Counts the bytes that a LoRA step in PyTorch saves for its backward pass. Writes bench/results/peft-saved.json.

Usage: python bench/peft-saved.py

Needs torch, transformers 5 and peft, but no GPU and no weights: everything runs on the meta device, where shapes and
the autograd graph are real but no numbers are computed. Every storage that autograd saves in the forward pass counts
once, except parameters. GB are 1e9 bytes. Two choices of a CUDA device have to be made explicitly on the meta device:

- dropout is native_dropout, which CUDA uses (its mask has one byte per element, not a float);
- "fused" attention is the op that scaled_dot_product_attention chooses on a CUDA device: flash attention in f16,
  memory-efficient attention in f32 and where there is an additive bias (T5, Swin). If the installed torch has no meta
  kernel for it, the row's savedBytes are null. transformers' DeBERTa has no attention but eager.

Layers are counted as safetape does: an encoder's, then the decoder's; Swin's through all stages.
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
QUERY_VALUE, PROJECTIONS = ["query", "value"], ["q_proj", "v_proj"]
CASES = [
    # name, batch, length, dtypes of base and adapters, target modules, task, largest number of frozen layers
    ("bert-large", 32, 128, "float32", "float32", QUERY_VALUE, "SEQ_CLS", 22),
    ("roberta-large", 16, 384, "float32", "float32", QUERY_VALUE, "SEQ_CLS", 22),
    ("gpt2-medium", 8, 512, "float32", "float32", ["c_attn"], "CAUSAL_LM", 22),
    ("llama-2-7b", 2, 512, "float16", "float16", PROJECTIONS, "CAUSAL_LM", 29),
    # PEFT's default for a base in 16 bits: adapters in f32, and therefore their inputs too.
    ("llama-2-7b", 2, 512, "float16", "float32", PROJECTIONS, "CAUSAL_LM", 29),
    *((name, batch, length, dtype, dtype, targets, task, most)
      for name, batch, length, targets, task, most in [
          ("llama-3.2-1b", 8, 512, PROJECTIONS, "CAUSAL_LM", 14),
          ("qwen3-0.6b", 8, 512, PROJECTIONS, "CAUSAL_LM", 26),
          ("qwen3-1.7b", 8, 512, PROJECTIONS, "CAUSAL_LM", 26),
          ("gemma-3-270m", 8, 512, PROJECTIONS, "CAUSAL_LM", 16),
          ("gemma-3-1b", 8, 512, PROJECTIONS, "CAUSAL_LM", 24),
          ("flan-t5-base", 16, 128, ["q", "v"], "SEQ_2_SEQ_LM", 22),
          ("flan-t5-xl", 16, 128, ["q", "v"], "SEQ_2_SEQ_LM", 46),
          ("deberta-v3-base", 32, 128, ["query_proj", "value_proj"], "SEQ_CLS", 10),
          ("modernbert-base", 32, 128, ["Wqkv"], "SEQ_CLS", 20),
          # In memory, transformers 5 calls Swin's query and value so.
          ("swin-base", 32, None, PROJECTIONS, "IMAGES", 22),
      ]
      for dtype in ("float32", "float16")),
]


def native_dropout(x, p=0.5, training=True, inplace=False):
    return torch.native_dropout(x, p, True)[0] if training and p > 0 else x


def fused(module, query, key, value, attention_mask, scaling=None, dropout=0.0, position_bias=None, **_):
    """Attention in one op, on [batch, heads, length, head size], without a mask, since no row is padded. Windows of a
    decoder are no shorter than its rows. Swin's bias, with its mask of shifted windows, comes as the mask."""
    causal = bool(getattr(module, "is_causal", False))
    bias = position_bias if "Swin" not in type(module).__name__ else attention_mask
    groups = query.shape[1] // key.shape[1]
    key, value = (t.repeat_interleave(groups, 1) if groups > 1 else t for t in (key, value))
    if query.dtype == torch.float32 or bias is not None:
        if bias is not None:
            bias = bias.expand(query.shape[0], query.shape[1], query.shape[2], key.shape[2])
        op = torch.ops.aten._scaled_dot_product_efficient_attention
        out = op(query, key, value, bias, True, dropout, causal, scale=scaling)[0]
    else:
        op = torch.ops.aten._scaled_dot_product_flash_attention
        out = op(query, key, value, dropout, causal, False, scale=scaling)[0]
    return out.transpose(1, 2), None


def build(name, dtype, adapter_dtype, targets, task, attention):
    values = json.loads((ROOT / "configs" / f"{name}.json").read_text())
    config = transformers.AutoConfig.for_model(**values)
    config._attn_implementation = "eager" if values["model_type"] == "deberta-v2" else attention
    if task == "SEQ_CLS":
        # Given, since DeBERTa would look for it in the values of labels, which do not exist on the meta device.
        config.problem_type = "single_label_classification"
    architecture = getattr(transformers, values["architectures"][0])
    lora = peft.LoraConfig(r=RANK, lora_alpha=16, lora_dropout=DROPOUT, target_modules=targets,
                           # PEFT 0.21's SEQ_2_SEQ_LM asks for a method that transformers 5.18 no longer has.
                           task_type=None if task in ("SEQ_2_SEQ_LM", "IMAGES") else task,
                           fan_in_fan_out=name.startswith("gpt2"))
    with torch.device("meta"):
        model = peft.get_peft_model(architecture(config).to(getattr(torch, dtype)), lora).train()
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(getattr(torch, adapter_dtype))
    return model


def depths(config):
    """Numbers of layers of the stacks of layers that follow each other."""
    if config.model_type == "t5":
        return [config.num_layers, config.num_decoder_layers]
    return config.depths if config.model_type == "swin" else [config.num_hidden_layers]


def layer_of(name, config):
    numbers = [int(part) for part in name.split(".") if part.isdigit()]
    stack = int(".decoder." in name) if config.model_type == "t5" else numbers[0] if config.model_type == "swin" else 0
    within = numbers[1] if config.model_type == "swin" else numbers[0]
    return sum(depths(config)[:stack]) + within


def freeze_below(model, layer):
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.requires_grad = layer_of(name, model.config) >= layer


def saved_bytes(model, batch, length, task):
    """Bytes of the storages that a forward pass saves. They are kept alive until counted, so that addresses are unique."""
    parameters = {parameter.untyped_storage()._cdata for parameter in model.parameters()}
    saved = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage._cdata not in parameters:
            saved[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model(**inputs_of(model, batch, length, task))
    return sum(storage.nbytes() for storage in saved.values())


def inputs_of(model, batch, length, task):
    """A batch without padding. Masks are passed in where transformers would compute them from the values of positions,
    which do not exist on the meta device."""
    size = model.config
    if task == "IMAGES":
        images = torch.zeros(batch, size.num_channels, size.image_size, size.image_size, dtype=model.dtype,
                             device="meta")
        return {"pixel_values": images, "labels": torch.zeros(batch, dtype=torch.long, device="meta")}
    ids = torch.zeros(batch, length, dtype=torch.long, device="meta")
    if task == "SEQ_CLS":
        return {"input_ids": ids, "labels": torch.zeros(batch, dtype=torch.long, device="meta")}
    # A cache would be a second copy of keys and values.
    if task == "SEQ_2_SEQ_LM":
        return {"input_ids": ids, "labels": ids, "use_cache": False}
    mask = torch.zeros(batch, 1, length, length, dtype=model.dtype, device="meta")
    masks = {kind: mask for kind in set(getattr(size, "layer_types", None) or [])}
    return {"input_ids": ids, "labels": ids, "use_cache": False,
            "attention_mask": masks if size.model_type.startswith(("gemma3", "qwen3")) else mask}


def weight_bytes(model):
    return sum(storage.nbytes() for storage in
               {p.untyped_storage()._cdata: p.untyped_storage() for p in model.parameters()}.values())


CLOSED_FORMS = ("bert-large", "roberta-large", "gpt2-medium", "llama-2-7b")


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
        layers = sum(depths(model.config))
        weights = weight_bytes(model)
        for frozen in (0, layers // 2, most):
            freeze_below(model, frozen)
            row = {"name": name, "batch": batch, "length": length, "dtype": dtype, "adapterDtype": adapter_dtype,
                   "attention": attention, "frozenLayers": frozen, "layers": layers, "weightBytes": weights}
            try:
                row["savedBytes"] = saved_bytes(model, batch, length, task)
            except NotImplementedError as error:
                row |= {"savedBytes": None, "why": str(error).split("\n")[0]}
            if attention == "eager" and adapter_dtype == dtype and name in CLOSED_FORMS:
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
# It reads token ids, which do not exist on the meta device.
transformers.PreTrainedModel.warn_if_padding_and_no_attention_mask = lambda *_: None
AttentionInterface.register("fused", fused)
result = {
    "versions": {"python": sys.version.split()[0], "torch": torch.__version__,
                 "transformers": transformers.__version__, "peft": peft.__version__},
    "rank": RANK,
    "loraDropout": DROPOUT,
    "results": [row for case in CASES for row in count(case)],
}
(ROOT / "results" / "peft-saved.json").write_text(json.dumps(result, indent=1) + "\n")
