"""Writes optimizers.json: parameters after each of five updates by torch.optim, in float64.

python test/interop/optimizers.py > test/interop/optimizers.json   (torch)
"""

import json
import sys

import torch

SHAPES = {"layer.weight": [5, 7], "layer.bias": [7], "head.weight": [6, 3]}
RATE, STEPS, MAX_NORM = 0.05, 5, 2.0

# By the names of this project's optimizers and options; torch's own names follow.
CASES = [
    ("sgd", {}, torch.optim.SGD, {}),
    (
        "sgd",
        {"momentum": 0.9, "dampening": 0.3, "weightDecay": 0.1},
        torch.optim.SGD,
        {"momentum": 0.9, "dampening": 0.3, "weight_decay": 0.1},
    ),
    ("sgd", {"momentum": 0.8, "nesterov": True}, torch.optim.SGD, {"momentum": 0.8, "nesterov": True}),
    ("adam", {"weightDecay": 0.2}, torch.optim.Adam, {"weight_decay": 0.2}),
    (
        "adamw",
        {"weightDecay": 0.2, "betas": [0.8, 0.95]},
        torch.optim.AdamW,
        {"weight_decay": 0.2, "betas": (0.8, 0.95)},
    ),
    (
        "adafactor",
        {"scaleParameter": True, "relativeStep": True, "weightDecay": 0.1},
        torch.optim.Adafactor,
        {"eps": (1e-30, 1e-3), "weight_decay": 0.1},
    ),
    (
        "adafactor",
        {"scaleParameter": True, "relativeStep": True, "eps": [0.3, 2.5], "decayRate": -0.5, "clipThreshold": 1.2},
        torch.optim.Adafactor,
        {"eps": (0.3, 2.5), "beta2_decay": -0.5, "d": 1.2},
    ),
]


def numbers(tensor):
    return [round(value, 10) for value in tensor.detach().flatten().tolist()]


def run(name, options, optimizer, torch_options):
    generator = torch.Generator().manual_seed(3)
    draw = lambda shape: torch.randn(shape, generator=generator, dtype=torch.float32).double()
    parameters = {key: torch.nn.Parameter(draw(shape)) for key, shape in SHAPES.items()}
    update = optimizer(parameters.values(), lr=RATE, **torch_options)
    case = {
        "optimizer": name,
        "options": {"learningRate": RATE, "maxGradNorm": MAX_NORM, **options},
        "start": {key: numbers(parameter) for key, parameter in parameters.items()},
        "gradients": [],
        "after": [],
    }
    for step in range(STEPS):
        for parameter in parameters.values():
            # The third step's gradients are small enough not to be clipped.
            parameter.grad = draw(parameter.shape) * (0.05 if step == 2 else 1)
        case["gradients"].append({key: numbers(parameter.grad) for key, parameter in parameters.items()})
        torch.nn.utils.clip_grad_norm_(parameters.values(), MAX_NORM)
        update.step()
        case["after"].append({key: numbers(parameter) for key, parameter in parameters.items()})
    return case


json.dump({"torch": torch.__version__.split("+")[0], "shapes": SHAPES, "cases": [run(*case) for case in CASES]}, sys.stdout)
