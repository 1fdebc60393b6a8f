"""Writes llama-cpp.json: names of tensors and blocks of Q8_0 as llama.cpp's own Python package has them.

    python3 -m venv gguf-env && gguf-env/bin/pip install gguf==0.19.0
    gguf-env/bin/python test/interop/llama-cpp.py
"""
import json
import pathlib

import gguf
import numpy as np
from gguf.constants import MODEL_ARCH

MODULES = [
    "model.embed_tokens", "model.norm", "lm_head",
    *(f"model.layers.1.{name}" for name in (
        "input_layernorm", "post_attention_layernorm", "pre_feedforward_layernorm", "post_feedforward_layernorm",
        "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "self_attn.qkv_proj",
        "self_attn.q_norm", "self_attn.k_norm", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj", "mlp.gate_up_proj",
    )),
]
ARCHITECTURES = {"llama": MODEL_ARCH.LLAMA, "qwen2": MODEL_ARCH.QWEN2, "qwen3": MODEL_ARCH.QWEN3,
                 "gemma2": MODEL_ARCH.GEMMA2, "gemma3": MODEL_ARCH.GEMMA3, "phi3": MODEL_ARCH.PHI3}

names = {}
for name, architecture in ARCHITECTURES.items():
    known = gguf.get_tensor_name_map(architecture, 2)
    names[name] = {module: known.get_name(module) for module in MODULES if known.get_name(module)}

# Ties, zeros, a block of zeros, and numbers far apart.
values = np.concatenate([
    np.arange(-16, 16) * 0.5, np.zeros(32), np.random.default_rng(1).normal(size=64),
    np.array([127.0] + [0.5, -0.5, 1.5, -1.5] * 7 + [2.5, -2.5, 0.0]),
]).astype(np.float32)
blocks = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0)
result = {"gguf": "0.19.0", "names": names,
          "q8_0": {"values": [float(value) for value in values], "bytes": blocks.reshape(-1).tolist()}}
path = pathlib.Path(__file__).with_name("llama-cpp.json")
path.write_text(json.dumps(result) + "\n")
