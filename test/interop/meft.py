"""Computes losses, gradients and start deviations of MEFT in float64, to which test/runs/meft.test.ts compares the engine.

The network is that of Liao et al. 2023 ("Make Pre-trained Model Reversible") on transformers' BERT layers. PyTorch keeps every
activation; nothing is rebuilt. Weights are sines of their index, so that no file of weights is needed.

Usage: python test/interop/meft.py > test/interop/meft.json
"""

import json
import sys

import torch
import transformers
from transformers import BertConfig, BertForSequenceClassification
from transformers.activations import ACT2FN

CONFIG = {
    "model_type": "bert",
    "vocab_size": 20,
    "hidden_size": 16,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 16,
    "type_vocab_size": 2,
    "num_labels": 2,
    "hidden_act": "gelu",
}
SIZE = 3
ROWS = [[2, 5, 7, 9, 11, 13], [3, 4, 8, 6]]
LABELS = [0, 1]
FACTORS = {1: (0.1, 1.0), 2: (1.0, 0.1), 3: (0.1, 0.1)}


def sines(name, shape):
    """0.4 sin(0.7 i + the sum of the name's character codes); norms' weights are 1 more."""
    count = torch.Size(shape).numel()
    phase = sum(ord(c) for c in name)
    values = 0.4 * torch.sin(0.7 * torch.arange(count, dtype=torch.float64) + phase)
    return (values + (1 if name.endswith("LayerNorm.weight") else 0)).reshape(shape)


def main():
    config = BertConfig(**CONFIG, attn_implementation="eager")
    model = BertForSequenceClassification(config).double().eval().requires_grad_(False)
    model.load_state_dict({name: sines(name, tensor.shape) for name, tensor in model.state_dict().items() if tensor.is_floating_point()}, strict=False)
    length = max(len(row) for row in ROWS)
    ids = torch.tensor([row + [0] * (length - len(row)) for row in ROWS])
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in ROWS])
    results = {str(variant): run(model, config, ids, mask, variant) for variant in FACTORS}
    json.dump(
        {
            "versions": {"torch": torch.__version__.split("+")[0], "transformers": transformers.__version__},
            "config": CONFIG,
            "size": SIZE,
            "rows": ROWS,
            "labels": LABELS,
            "variants": results,
        },
        sys.stdout,
        indent=1,
    )
    print()


def run(model, config, ids, mask, variant):
    act, width = ACT2FN[config.hidden_act], config.hidden_size
    tensors = {}

    def bottleneck(name, x):
        for part, shape in (("down.weight", (SIZE, width)), ("down.bias", (SIZE,)), ("up.weight", (width, SIZE)), ("up.bias", (width,))):
            full = f"{name}_{part}"
            tensors.setdefault(full, sines(full, shape).requires_grad_(True))
        down = torch.nn.functional.linear(x, tensors[f"{name}_down.weight"], tensors[f"{name}_down.bias"])
        return torch.nn.functional.linear(act(down), tensors[f"{name}_up.weight"], tensors[f"{name}_up.bias"])

    bias = (1 - mask[:, None, None, :].double()) * torch.finfo(torch.float64).min

    def attention(i, x):
        layer, path = model.bert.encoder.layer[i].attention, f"bert.encoder.layer.{i}.attention"
        h = layer.output.dense(layer.self(x, bias)[0])
        if variant == 3:
            h = h + bottleneck(f"{path}.adapter", h)
        return layer.output.LayerNorm(h + x)

    def feed_forward(i, x):
        layer = model.bert.encoder.layer[i]
        h = layer.output.dense(layer.intermediate(x)) + bottleneck(f"bert.encoder.layer.{i}.output.adapter", x)
        return layer.output.LayerNorm(h + x)

    def whole(i, x):
        return feed_forward(i, attention(i, x))

    def alone(i, x):
        return bottleneck(f"bert.encoder.layer.{i}.output.stream_adapter", x)

    f, g = {1: (whole, alone), 2: (alone, whole), 3: (attention, feed_forward)}[variant]
    factor_1, factor_2 = FACTORS[variant]
    x1 = x2 = original = model.bert.embeddings(input_ids=ids)
    for i in range(config.num_hidden_layers):
        y1 = factor_1 * x1 + f(i, x2)
        y2 = factor_2 * x2 + g(i, y1)
        x1, x2 = (y1, y2) if variant == 3 else (y2, y1)
        original = model.bert.encoder.layer[i](original, bias)
    mean, original = (x1 + x2) / 2, original[0] if isinstance(original, tuple) else original
    logits = model.classifier(model.bert.pooler(mean))
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(LABELS))
    loss.backward()
    return {
        "loss": loss.item(),
        "startDeviation": ((mean - original)[mask == 1].norm() / original[mask == 1].norm()).item(),
        "gradients": {name: summary(name, tensor.grad) for name, tensor in sorted(tensors.items())},
    }


def summary(name, gradient):
    """Norm, and product with the sines that another name would give."""
    pattern = sines(f"{name}.pattern", gradient.shape)
    return [float(f"{value:.9g}") for value in (gradient.norm().item(), (gradient * pattern).sum().item())]


if __name__ == "__main__":
    main()
