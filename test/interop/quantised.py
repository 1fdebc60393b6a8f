"""Writes small checkpoints in bitsandbytes' formats, and the logits of their dequantised weights.

Usage: python test/interop/quantised.py test/interop/quantised

Needs torch, transformers and safetensors, but not bitsandbytes: its layout (the state dicts of Linear4bit and Linear8bitLt
as transformers saves them) and its arithmetic are reimplemented here in torch.
"""

import copy
import json
import pathlib
import shutil
import sys

import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.pytorch_utils import Conv1D

BLOCK, NESTED_BLOCK = 64, 256
# NormalFloat4: QLoRA (Dettmers et al. 2023), appendix E
NF4 = torch.tensor([
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0])


def dynamic_map():
    """256 values for scales: seven decades, the lower the fewer values (Dettmers et al. 2022, section 2.1)."""
    values = [0.0, 1.0]
    for decade in range(7):
        edges = torch.linspace(0.1, 1, 2 ** decade + 1)
        means = 10.0 ** (decade - 6) * (edges[:-1] + edges[1:]) / 2
        values += means.tolist() + (-means).tolist()
    return torch.tensor(sorted(values))


def nearest(values, code):
    return (values.reshape(-1, 1) - code).abs().argmin(1).to(torch.uint8)


def in_blocks(values, size):
    padded = torch.nn.functional.pad(values.flatten(), (0, -values.numel() % size)).reshape(-1, size)
    scales = padded.abs().amax(1)
    return padded / scales.clamp_min(1e-38).unsqueeze(1), scales


def expand(scales, size, count):
    return scales.repeat_interleave(size)[:count]


def four_bits(name, weight, double):
    """Quantises a weight to NF4. Returns the tensors for the file, and the dequantised weight."""
    scaled, scales = in_blocks(weight, BLOCK)
    count = weight.numel()
    codes = nearest(scaled, NF4)[:count]
    state = {"quant_type": "nf4", "blocksize": BLOCK, "dtype": "float16", "shape": list(weight.shape)}
    tensors = {"absmax": scales, "quant_map": NF4.clone()}
    if double:
        mean = scales.mean()
        inner, outer = in_blocks(scales - mean, NESTED_BLOCK)
        code = dynamic_map()
        scale_codes = nearest(inner, code)[:len(scales)]
        tensors |= {"absmax": scale_codes, "nested_absmax": outer, "nested_quant_map": code}
        state |= {"nested_blocksize": NESTED_BLOCK, "nested_dtype": "float32", "nested_offset": mean.item()}
        scales = code[scale_codes.int()] * expand(outer, NESTED_BLOCK, len(scales)) + mean
    even = torch.nn.functional.pad(codes, (0, count % 2))
    packed = (even[::2] << 4 | even[1::2]).unsqueeze(1)
    text = json.dumps(state).encode()
    tensors["quant_state.bitsandbytes__nf4"] = torch.tensor(list(text), dtype=torch.uint8)
    value = (NF4[codes.int()] * expand(scales, BLOCK, count)).reshape(weight.shape)
    return {name: packed} | {f"{name}.{key}": tensor for key, tensor in tensors.items()}, value


def eight_bits(name, weight):
    """Quantises a weight to int8 by rows. Returns the tensors for the file, and the dequantised weight."""
    scales = weight.abs().amax(1)
    codes = torch.round(weight * (127.0 / scales.unsqueeze(1))).to(torch.int8)
    module = name.removesuffix(".weight")
    tensors = {name: codes, f"{module}.SCB": scales, f"{module}.weight_format": torch.tensor(0, dtype=torch.uint8)}
    return tensors, codes * scales.unsqueeze(1) * (1 / 127)


def config_of(bits, double):
    config = transformers.BitsAndBytesConfig(load_in_8bit=bits == 8, bnb_4bit_quant_type="nf4",
                                             bnb_4bit_use_double_quant=double)
    return config.to_dict() | {"load_in_4bit": bits == 4, "_load_in_4bit": bits == 4}


def write(folder, model, bits, double=False):
    """Writes a checkpoint with all linear modules except the head quantised and the rest in f16, as transformers does."""
    torch.manual_seed(5)
    for parameter in model.parameters():
        parameter.data = (parameter.data + 0.1 * torch.randn_like(parameter)).half().float()
    shutil.rmtree(folder, ignore_errors=True)
    # half() works on a copy, since it also rounds the frequencies of rotary embeddings.
    copy.deepcopy(model).half().save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    tensors = load_file(folder / "model.safetensors")
    values = {}
    for name, module in model.named_modules():
        if not isinstance(module, (torch.nn.Linear, Conv1D)) or name in ("classifier", "lm_head"):
            continue
        key = f"{name}.weight"
        # Conv1D's weight is the transpose of Linear's, but is stored like Linear's.
        weight = module.weight.data.T if isinstance(module, Conv1D) else module.weight.data
        stored, value = four_bits(key, weight, double) if bits == 4 else eight_bits(key, weight)
        tensors |= stored
        module.weight.data = value.T if isinstance(module, Conv1D) else value
        values[key] = module.weight.data.contiguous()
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, folder / "model.safetensors",
              metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = config_of(bits, double)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    ids = torch.randint(3, 61, (2, 7))
    mask = torch.ones_like(ids)
    with torch.no_grad():
        logits = model.double().eval()(input_ids=ids, attention_mask=mask).logits
    save_file({"input_ids": ids.int(), "attention_mask": mask.int(), "logits": logits.float().contiguous(),
               **{key: values[key] for key in (list(values)[0], list(values)[-1])}},
              folder / "expected.safetensors")


t = transformers
out = pathlib.Path(sys.argv[1])
bert = dict(vocab_size=61, hidden_size=20, num_hidden_layers=2, num_attention_heads=2, intermediate_size=36,
            max_position_embeddings=16, num_labels=3)
llama = dict(vocab_size=61, hidden_size=64, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
             intermediate_size=300, max_position_embeddings=16, tie_word_embeddings=False)
gpt2 = dict(vocab_size=61, n_embd=20, n_layer=2, n_head=2, n_positions=16, bos_token_id=0, eos_token_id=0)
write(out / "bert-nf4", t.BertForSequenceClassification(t.BertConfig(**bert)), 4)
write(out / "bert-int8", t.BertForSequenceClassification(t.BertConfig(**bert)), 8)
write(out / "llama-nf4-double", t.LlamaForCausalLM(t.LlamaConfig(**llama)), 4, double=True)
write(out / "gpt2-nf4-double", t.GPT2LMHeadModel(t.GPT2Config(**gpt2)), 4, double=True)
write(out / "gpt2-int8", t.GPT2LMHeadModel(t.GPT2Config(**gpt2)), 8)
