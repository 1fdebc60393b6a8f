"""Computes losses, logits, gradients and initial values of PEFT's LoHa, LoKr and OFT in float64, to which test/runs/lycoris.test.ts
compares the engine.

Weights are sines of their index, so that no file of weights is needed. What training alone draws (dropout) is left out.

Usage: python test/interop/lycoris.py > test/interop/lycoris.json
"""

import json
import sys

import peft
import torch
import transformers
from peft import LoHaConfig, LoKrConfig, OFTConfig
from peft.tuners.tuners_utils import BaseTunerLayer

CONFIG = {
    "model_type": "bert",
    "architectures": ["BertForSequenceClassification"],
    "vocab_size": 20,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 16,
    "type_vocab_size": 2,
    "num_labels": 2,
    "hidden_act": "gelu",
}
ROWS = [[2, 5, 7, 9, 11, 13], [3, 4, 8, 6]]
LABELS = [0, 1]
DRAWS = 300
ALL = {"target_modules": "all-linear"}
SOME = {"target_modules": ["query", "output.dense"], "exclude_modules": r".*layer\.1\.attention\.output.*"}
PATTERNS = {"rank_pattern": {"query": 5, r"0\..*\.dense": 1}, "alpha_pattern": {r"layer\.1\..*": 3.5}}
CASES = {
    "LoHa by default": LoHaConfig(),
    "LoHa of all projections": LoHaConfig(r=3, alpha=7, rank_dropout=0.4, module_dropout=0.2, **ALL),
    "LoHa with patterns": LoHaConfig(r=2, alpha=5, use_effective_conv2d=True, **SOME, **PATTERNS),
    "LoHa in a layer": LoHaConfig(r=4, target_modules=["query", "value"], layers_to_transform=[1], layers_pattern="layer"),
    "LoKr by default, of whole matrices": LoKrConfig(),
    "LoKr of two factors": LoKrConfig(r=1, alpha=3, rank_dropout=0.4, module_dropout=0.2, rank_dropout_scale=True, **ALL),
    "LoKr of two products": LoKrConfig(r=1, alpha=3, decompose_both=True, **ALL),
    "LoKr with a side": LoKrConfig(r=2, decompose_factor=8, **SOME),
    "LoKr with a side that divides nothing": LoKrConfig(r=2, alpha=5, decompose_both=True, decompose_factor=7, **ALL),
    "LoKr with patterns": LoKrConfig(r=1, **SOME, **PATTERNS),
    "OFT by default": OFTConfig(),
    "OFT of blocks of four": OFTConfig(oft_block_size=4, module_dropout=0.3, **ALL),
    "OFT of six terms": OFTConfig(oft_block_size=5, num_cayley_neumann_terms=6, **SOME),
    "OFT of two terms": OFTConfig(oft_block_size=8, num_cayley_neumann_terms=2),
    "OFT of three terms": OFTConfig(oft_block_size=8, num_cayley_neumann_terms=3),
    "OFT by the inverse": OFTConfig(oft_block_size=8, use_cayley_neumann=False, **ALL),
    "OFT of three blocks": OFTConfig(r=3, oft_block_size=0, use_cayley_neumann=False),
    "OFT of shared blocks": OFTConfig(oft_block_size=4, block_share=True, **ALL),
    "OFT in a layer": OFTConfig(oft_block_size=4, target_modules=["query", "value"], layers_to_transform=[1]),
}


def sines(name, shape):
    """0.4 sin(0.7 i + the sum of the name's character codes); norms' weights are 1 more, angles of rotations a quarter."""
    count = torch.Size(shape).numel()
    phase = sum(ord(c) for c in name)
    values = (0.1 if name.endswith("oft_R.weight") else 0.4) * torch.sin(0.7 * torch.arange(count, dtype=torch.float64) + phase)
    return (values + (1 if name.endswith("LayerNorm.weight") else 0)).reshape(shape)


def base():
    config = transformers.BertConfig(**CONFIG, attn_implementation="eager")
    model = transformers.BertForSequenceClassification(config).double()
    values = {name: sines(name, tensor.shape) for name, tensor in model.state_dict().items() if tensor.is_floating_point()}
    model.load_state_dict(values, strict=False)
    return model


def named(model):
    """The adapter's tensors by the names that a file gives them."""
    return {
        name.removeprefix("base_model.model.").replace(".default", ""): parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and "modules_to_save" not in name
    }


def run(config):
    config.task_type = "SEQ_CLS"
    model = peft.get_peft_model(base(), config).double()
    starts = largest(model, config)
    for name, parameter in named(model).items():
        parameter.data = sines(name, parameter.shape)
    length = max(len(row) for row in ROWS)
    ids = torch.tensor([row + [0] * (length - len(row)) for row in ROWS])
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in ROWS])
    logits = model.eval()(input_ids=ids, attention_mask=mask).logits
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(LABELS))
    loss.backward()
    # Keys without a value are those that no adapter needs.
    written = {key: value for key, value in config.to_dict().items() if value is not None}
    return {
        "config": {key: sorted(value) if isinstance(value, set) else value for key, value in written.items()},
        "loss": loss.item(),
        "logits": logits.flatten().tolist(),
        "tensors": {
            name: {"shape": list(tensor.shape), "start": starts[name], "gradient": summary(name, tensor.grad)}
            for name, tensor in sorted(named(model).items())
        },
    }


def largest(model, config):
    """The largest magnitude of each tensor's initial values in many draws: the bound of a uniform distribution."""
    most = {}
    layers = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    for _ in range(DRAWS):
        for layer in layers:
            if config.peft_type == "OFT":
                layer.update_layer("default", r=config.r, config=config)
            else:
                layer.update_layer("default", r=layer.r["default"], alpha=layer.alpha["default"], config=config)
        for name, tensor in named(model).items():
            most[name] = max(most.get(name, 0), float(f"{tensor.abs().max().item():.4g}"))
    return most


def summary(name, gradient):
    """Norm, and product with the sines that another name would give."""
    pattern = sines(f"{name}.pattern", gradient.shape)
    return [float(f"{value:.9g}") for value in (gradient.norm().item(), (gradient * pattern).sum().item())]


if __name__ == "__main__":
    torch.manual_seed(11)
    cases = {name: run(config) for name, config in CASES.items()}
    versions = {"torch": torch.__version__.split("+")[0], "transformers": transformers.__version__, "peft": peft.__version__}
    json.dump({"versions": versions, "config": CONFIG, "rows": ROWS, "labels": LABELS, "cases": cases}, sys.stdout, indent=1)
    print()
