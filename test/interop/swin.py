"""Writes golden runs of full tuning of Swin and Swin v2 whose maps are no multiples of their windows.

Usage: python test/interop/swin.py test/golden

Needs torch, transformers and safetensors. transformers computes the runs in float64; they are stored as float32 in the format
of the other golden runs. Windows fill maps of 10, 5 and 3 tokens a side up to whole windows, merging fills up odd maps, and
Swin v2's positions were learned for windows of other sizes. Each run trains every tensor with AdamW.
"""
import json
import pathlib
import sys

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForImageClassification, SwinConfig, Swinv2Config

SIZES = {"image_size": 20, "patch_size": 2, "num_channels": 1, "embed_dim": 8, "depths": [2, 2, 1], "num_heads": [1, 2, 4],
         "mlp_ratio": 1.5, "drop_path_rate": 0.0, "num_labels": 3}
CONFIGS = {
    "swin": SwinConfig(window_size=3, **SIZES),
    "swinv2": Swinv2Config(window_size=4, pretrained_window_sizes=[8, 0, 6], **SIZES),
}
STEPS, BATCH = 3, 2
OPTIMIZER = {"lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": 0.0}
# transformers 5 names Swin's modules otherwise in memory.
FILE_NAMES = [(".attention.q_proj.", ".attention.self.query."), (".attention.k_proj.", ".attention.self.key."),
              (".attention.v_proj.", ".attention.self.value."), (".attention.o_proj.", ".attention.output.dense."),
              (".mlp.fc1.", ".intermediate.dense."), (".mlp.fc2.", ".output.dense."),
              (".attention.relative_position_bias.relative_position_bias_table",
               ".attention.self.relative_position_bias_table")]


def file_name(name):
    for memory, file in FILE_NAMES:
        name = name.replace(memory, file)
    return name


def randomise(model, random):
    for name, tensor in model.named_parameters():
        draw = torch.randn(tensor.shape, generator=random, dtype=torch.float64)
        if "norm" in name and name.endswith("weight"):
            tensor.data = 1 + 0.1 * draw
        elif "logit_scale" in name:
            tensor.data = 1 + 0.3 * draw
        elif "table" in name or "position_bias_mlp" in name:
            tensor.data = 0.4 * draw
        else:
            tensor.data = 0.2 * draw
        tensor.data = tensor.data.float().double()
    for name, tensor in model.named_parameters():
        if "layers.1.blocks.0" in name and "logit_scale" in name:
            tensor.data[0] = 4.7  # Above the largest that counts.


def run(family, folder):
    random = torch.Generator().manual_seed(11)
    torch.set_default_dtype(torch.float64)
    model = AutoModelForImageClassification.from_config(CONFIGS[family], attn_implementation="eager").double().eval()
    randomise(model, random)
    folder.mkdir(parents=True, exist_ok=True)
    start = {file_name(name): tensor.detach().clone() for name, tensor in model.named_parameters()}
    model.float().save_pretrained(folder)
    model.double()
    assert sorted(load_file(folder / "model.safetensors")) == sorted(start)
    pixels = torch.randn(STEPS, BATCH, 1, 20, 20, generator=random).float()
    labels = torch.randint(3, (STEPS, BATCH), generator=random)
    optimizer = torch.optim.AdamW(model.parameters(), lr=OPTIMIZER["lr"], betas=OPTIMIZER["betas"], eps=OPTIMIZER["eps"],
                                  weight_decay=0.0)
    blocks = [block for stage in getattr(model, family).encoder.layers for block in stage.blocks]
    outputs = {}
    for i, block in enumerate(blocks):
        block.register_forward_hook(lambda _module, _inputs, output, i=i: outputs.__setitem__(i, output[0].detach()))
    expected, losses = {}, []
    for step in range(STEPS):
        result = model(pixel_values=pixels[step].double(), labels=labels[step])
        optimizer.zero_grad()
        result.loss.backward()
        losses.append(float(result.loss))
        if step == 0:
            expected["logits"] = result.logits.detach()
            for i, output in outputs.items():
                expected[f"layer.{i}"] = output
                expected[f"origin.{i}"] = output
            for name, tensor in model.named_parameters():
                expected[f"grad.{file_name(name)}"] = tensor.grad.clone()
        optimizer.step()
    for name, tensor in model.named_parameters():
        expected[f"final.{file_name(name)}"] = tensor.detach()
    save = lambda tensors, name: save_file({key: value.float().contiguous() for key, value in tensors.items()}, folder / name)
    save(start, "start.safetensors")
    save(expected, "expected.safetensors")
    save_file({"pixel_values": pixels, "labels": labels.int()}, folder / "batches.safetensors")
    # Softmax does not notice the bias of keys.
    noise = [name for name in start if name.endswith("key.bias")]
    case = {"name": f"{family}-full", "seed": 11, "steps": STEPS, "batch_size": BATCH, "adapter": {"type": "BITFIT"},
            "full": True, "optimizer": OPTIMIZER, "losses": losses, "noise": noise}
    (folder / "case.json").write_text(json.dumps(case, indent=1))


for name in CONFIGS:
    run(name, pathlib.Path(sys.argv[1]) / f"{name}-full")
