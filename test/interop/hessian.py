"""Computes Hessian eigenvalues of LoRA exactly in float64, to which test/device/analysis.test.ts compares central differences.

The Hessian is taken with respect to the initial LoRA tensors of a golden case. Products with it differentiate PyTorch's
gradients a second time. Eigenvalues come from the Lanczos method, converged to float64 rounding.

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
STEPS = 150


class LowRank(torch.nn.Module):
    """W + scale B A, with A and B from `tensors`."""

    def __init__(self, tensors, name, scale):
        super().__init__()
        self.tensors, self.name, self.scale = tensors, name, scale

    def forward(self, weight):
        return weight + self.scale * self.tensors[f"{self.name}.lora_B.weight"] @ self.tensors[f"{self.name}.lora_A.weight"]


def lanczos(product, size):
    """Ritz values and vectors after STEPS products from a fixed start vector, with full reorthogonalisation."""
    torch.manual_seed(0)
    basis, diagonal, off_diagonal = [torch.nn.functional.normalize(torch.randn(size, dtype=torch.float64), dim=0)], [], []
    for _ in range(STEPS):
        w = product(basis[-1])
        diagonal.append(w @ basis[-1])
        previous = torch.stack(basis)
        for _ in range(2):
            w = w - previous.T @ (previous @ w)
        off_diagonal.append(w.norm())
        basis.append(w / off_diagonal[-1])
    off = torch.stack(off_diagonal[:-1])
    values, weights = torch.linalg.eigh(torch.diag(torch.stack(diagonal)) + torch.diag(off, 1) + torch.diag(off, -1))
    return values, torch.stack(basis[:-1]).T @ weights


def main():
    adapter = json.loads((CASE / "case.json").read_text())["adapter"]
    config = BertConfig(**json.loads((CASE / "config.json").read_text()), attn_implementation="eager")
    model = BertForSequenceClassification(config).double().eval().requires_grad_(False)
    start = {name: tensor.double() for name, tensor in load_file(CASE / "start.safetensors").items()}
    missing = model.load_state_dict({name: t.double() for name, t in load_file(CASE / "model.safetensors").items()}, strict=False)
    assert not missing.missing_keys, missing
    model.load_state_dict({name: t for name, t in start.items() if ".lora_" not in name}, strict=False)
    lora = {name: tensor.requires_grad_() for name, tensor in start.items() if ".lora_" in name}
    for name in sorted({name.rsplit(".lora_", 1)[0] for name in lora}):
        parametrize.register_parametrization(model.get_submodule(name), "weight", LowRank(lora, name, adapter["lora_alpha"] / adapter["r"]))

    stacked = load_file(CASE / "batches.safetensors")
    batch = {name: tensor[:BATCHES].flatten(0, 1).long() for name, tensor in stacked.items()}
    loss = model(**batch).loss
    parameters = list(lora.values())
    gradient = torch.cat([g.flatten() for g in torch.autograd.grad(loss, parameters, create_graph=True)])
    size = gradient.numel()

    def product(v):
        return torch.cat([part.flatten() for part in torch.autograd.grad(gradient, parameters, v, retain_graph=True)])

    direction = gradient.detach()
    hessian_gradient = product(direction)
    values, vectors = lanczos(product, size)
    order = values.abs().argsort(descending=True)[:COUNT]
    residuals = [(product(vectors[:, i]) - values[i] * vectors[:, i]).norm().item() for i in order]
    assert max(residuals) < 1e-9, residuals
    result = {
        **{"case": CASE.name, "batches": BATCHES, "parameters": size, "loss": loss.item()},
        "gradientNorm": gradient.norm().item(),
        "curvatureAlongGradient": (direction @ hessian_gradient / (direction @ direction)).item(),
        "stretchOfGradient": (hessian_gradient.norm() / direction.norm()).item(),
        **{"eigenvalues": values[order].tolist(), "residuals": residuals},
        "by": f"torch {torch.__version__.split('+')[0]}, transformers {transformers.__version__}",
    }
    json.dump(result, sys.stdout, indent=1)
    print()


main()
