"""Exact Hessian eigenvalues of LoRA in float64: what test/device/analysis.test.ts holds central differences against.

The whole matrix, by differentiating PyTorch's gradients once more, over the LoRA tensors of a golden case as they start.

Usage: python test/interop/hessian.py > test/interop/hessian.json
"""

import json
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file
from torch.nn.utils import parametrize
from transformers import BertConfig, BertForSequenceClassification

CASE = Path(__file__).parent.parent / "golden" / "bert-lora"
BATCHES = 2
COUNT = 5


class LowRank(torch.nn.Module):
    """W + scale B A, with A and B as they are found in `tensors`."""

    def __init__(self, tensors, name, scale):
        super().__init__()
        self.tensors, self.name, self.scale = tensors, name, scale

    def forward(self, weight):
        return weight + self.scale * self.tensors[f"{self.name}.lora_B.weight"] @ self.tensors[f"{self.name}.lora_A.weight"]


def main():
    told = json.loads((CASE / "case.json").read_text())["adapter"]
    config = BertConfig(**json.loads((CASE / "config.json").read_text()), attn_implementation="eager")
    model = BertForSequenceClassification(config).double().eval().requires_grad_(False)
    start = {name: tensor.double() for name, tensor in load_file(CASE / "start.safetensors").items()}
    missing = model.load_state_dict({name: t.double() for name, t in load_file(CASE / "model.safetensors").items()}, strict=False)
    assert not missing.missing_keys, missing
    model.load_state_dict({name: t for name, t in start.items() if ".lora_" not in name}, strict=False)
    lora = {name: tensor.requires_grad_() for name, tensor in start.items() if ".lora_" in name}
    for name in sorted({name.rsplit(".lora_", 1)[0] for name in lora}):
        parametrize.register_parametrization(model.get_submodule(name), "weight", LowRank(lora, name, told["lora_alpha"] / told["r"]))

    stacked = load_file(CASE / "batches.safetensors")
    batch = {name: tensor[:BATCHES].flatten(0, 1).long() for name, tensor in stacked.items()}
    loss = model(**batch).loss
    parameters = list(lora.values())
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters, create_graph=True)])
    size = gradient.numel()
    rows = []
    for units in torch.eye(size, dtype=gradient.dtype).split(256):
        parts = torch.autograd.grad(gradient, parameters, units, is_grads_batched=True, retain_graph=True)
        rows.append(torch.cat([part.flatten(1) for part in parts], dim=1))
    hessian = torch.cat(rows)
    values = torch.linalg.eigvalsh((hessian + hessian.T) / 2)
    largest = values[values.abs().argsort(descending=True)][:COUNT]
    result = {
        **{"case": CASE.name, "batches": BATCHES, "parameters": size, "loss": loss.item()},
        "gradientNorm": gradient.norm().item(),
        "asymmetry": ((hessian - hessian.T).abs().max() / values.abs().max()).item(),
        "eigenvalues": largest.tolist(),
        "by": f"torch {torch.__version__.split('+')[0]}, transformers {transformers.__version__}",
    }
    json.dump(result, sys.stdout, indent=1)
    print()


main()
