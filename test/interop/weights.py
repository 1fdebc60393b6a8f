"""Losses and gradients of tokens with weights by transformers in float64, as expected by test/runs/token-weights.test.ts.

The loss is sum(w l) / sum(w) over the predicted tokens of both rows: PyTorch's cross-entropies of each token, weighed and divided
by the sum of the weights, as torch.nn.CrossEntropyLoss does for weights of classes.

Usage: python test/interop/weights.py > test/interop/weights.json
"""

import json
from pathlib import Path

import torch
import transformers
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM

TESTS = Path(__file__).parent.parent
MODELS = ["interop-data/gpt2/base", "interop-data/llama/base", "golden-families/gemma2-lora"]
# Lengths of rows and the weights of their last tokens; the tokens before have no label.
ROWS = [(12, [0.25, 0.25, 1, 1, 0, 3.5]), (9, [1, 0.1, 0.1, 0.1])]
SMOOTHINGS = [0, 0.1]


def rows():
    made = []
    for number, (length, weights) in enumerate(ROWS):
        ids = [3 + (11 * number + i * i + 3 * i) % 40 for i in range(length)]
        unlabelled = length - len(weights)
        made.append({
            "ids": ids,
            "labels": [-100] * unlabelled + ids[unlabelled:],
            "weights": [1] * unlabelled + weights,
        })
    return made


def result(name, smoothing):
    model = AutoModelForCausalLM.from_pretrained(TESTS / name, dtype=torch.float64, attn_implementation="eager").eval()
    total, weight = 0.0, 0.0
    for row in rows():
        logits = model(input_ids=torch.tensor([row["ids"]]), use_cache=False).logits[0, :-1]
        weights = torch.tensor(row["weights"][1:], dtype=torch.float64)
        labels = torch.tensor(row["labels"][1:])
        losses = cross_entropy(logits, labels, reduction="none", label_smoothing=smoothing)
        total = total + (losses * weights).sum()
        weight += weights[labels != -100].sum().item()
    loss = total / weight
    loss.backward()
    chosen = {
        parameter: tensor.grad.norm().item()
        for parameter, tensor in model.named_parameters()
        if "layers.1." in parameter or "h.1." in parameter or "embed_tokens" in parameter or "wte" in parameter
    }
    return {"model": name, "smoothing": smoothing, "weight": weight, "loss": loss.item(), "gradients": chosen}


if __name__ == "__main__":
    print(json.dumps({
        "transformers": transformers.__version__,
        "rows": rows(),
        "results": [result(name, smoothing) for name in MODELS for smoothing in SMOOTHINGS],
    }))
