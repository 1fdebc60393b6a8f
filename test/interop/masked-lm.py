"""Computes transformers' masked language models in float64, to which test/runs/masked-lm.test.ts compares the engine.

The models are those of test/interop-data, with padded rows; tensors that their files lack, those of the head, are sines of the
elements' index. Of every gradient the length and the product with such sines are written.

Usage: python test/interop/masked-lm.py > test/interop/masked-lm.json
"""

import json
import pathlib
import sys

import safetensors
import torch
import transformers

DATA = pathlib.Path(__file__).resolve().parent.parent / "interop-data"
FAMILIES = ["bert", "roberta", "distilbert", "albert", "electra", "mpnet", "modernbert"]
MASK = 4
ROWS = [[2, 15, 7, MASK, 11, 13, 17, 30, 3], [2, MASK, 8, 6, 22, 3]]
# Positions that are predicted and what is right there: a masked token, one that stays, and a masked one.
PREDICTED = [[3, 6], [1]]
LABELS = [[9, 17], [40]]


def sines(name, shape):
    """0.5 sin(0.7 i + the sum of the name's character codes)."""
    phase = sum(ord(c) for c in name)
    return 0.5 * torch.sin(0.7 * torch.arange(torch.Size(shape).numel(), dtype=torch.float64) + phase).reshape(shape)


def run(family):
    folder = DATA / family / "base"
    with safetensors.safe_open(folder / "model.safetensors", "pt") as file:
        stored = set(file.keys())
    model = transformers.AutoModelForMaskedLM.from_pretrained(folder, attn_implementation="eager").double().eval()
    parameters = dict(model.named_parameters())
    new = sorted(name for name in parameters if name not in stored)
    with torch.no_grad():
        for name in new:
            parameters[name].copy_(sines(name, parameters[name].shape))
    length = max(len(row) for row in ROWS)
    pad = model.config.pad_token_id or 0
    ids = torch.tensor([row + [pad] * (length - len(row)) for row in ROWS])
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in ROWS])
    labels = torch.full(ids.shape, -100)
    for row, (positions, right) in enumerate(zip(PREDICTED, LABELS)):
        labels[row, positions] = torch.tensor(right)
    # transformers computes this loss in float32.
    logits = model(input_ids=ids, attention_mask=mask).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
    loss.backward()
    predicted = [logits[row, at] for row, positions in enumerate(PREDICTED) for at in positions]
    gradients = {}
    for name, parameter in parameters.items():
        product = (parameter.grad * sines(f"{name}.pattern", parameter.shape)).sum()
        gradients[name] = [float(parameter.grad.norm()), float(product)]
    return {
        "family": family,
        "new": new,
        "loss": float(loss.detach()),
        "logits": [[float(f"{value:.9g}") for value in row.tolist()] for row in predicted],
        "gradients": gradients,
    }


def main():
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    versions = {module.__name__: module.__version__.split("+")[0] for module in [torch, transformers]}
    cases = [run(family) for family in FAMILIES]
    made = {"versions": versions, "rows": ROWS, "predicted": PREDICTED, "labels": LABELS, "cases": cases}
    json.dump(made, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
