"""Computes losses and gradients of PEFT's prefix tuning and P-tuning in float64, to which test/runs/prefix-tuning.test.ts compares
the engine.

The models are those of test/interop-data, with padded rows. What an adapter learns are sines of the elements' index, and of its
gradients the length and the product with such sines are written, so that no file of weights is needed.

Usage: python test/interop/prefix.py > test/interop/prefix.json
"""

import json
import pathlib
import sys

import peft
import torch
import transformers

DATA = pathlib.Path(__file__).resolve().parent.parent / "interop-data"
ROWS = [[2, 5, 7, 9, 11, 13, 17], [3, 4, 8, 6]]
TOKENS, SIZE = 3, 5
KINDS = {
    "prefix tuning": peft.PrefixTuningConfig,
    "prefix tuning with a projection": lambda **options: peft.PrefixTuningConfig(prefix_projection=True, encoder_hidden_size=SIZE, **options),
    "P-tuning": lambda **options: peft.PromptEncoderConfig(encoder_hidden_size=SIZE, **options),
}


def sines(name, shape):
    """0.5 sin(0.7 i + the sum of the name's character codes)."""
    phase = sum(ord(c) for c in name)
    return 0.5 * torch.sin(0.7 * torch.arange(torch.Size(shape).numel(), dtype=torch.float64) + phase).reshape(shape)


def parts(kind, encoder, layers):
    """The library's names of an encoder's tensors, each with a function that takes its part of a PEFT tensor or of a gradient."""
    whole = lambda tensor: tensor
    if kind == "P-tuning":
        names = [("embedding.weight", "embedding"), *((f"mlp_head.{i}.{part}",) * 2 for i in (0, 2, 4) for part in ("weight", "bias"))]
        return [(theirs, f"prompt_encoder.{ours}", whole) for theirs, ours in names]
    result = []
    if kind != "prefix tuning":
        names = {"embedding.weight": "embedding", "transform.0.weight": "hidden.weight", "transform.0.bias": "hidden.bias"}
        result = [(theirs, f"prefix.{ours}", whole) for theirs, ours in names.items()]
    sources = {"embedding.weight": ""} if kind == "prefix tuning" else {"transform.2.weight": ".weight", "transform.2.bias": ".bias"}
    for theirs, ending in sources.items():
        axis = 1 if kind == "prefix tuning" else 0
        for i in range(2 * layers):
            take = lambda tensor, i=i, axis=axis: tensor.chunk(2 * layers, axis)[i]
            result.append((theirs, f"prefix.layers.{i // 2}.{('keys', 'values')[i % 2]}{ending}", take))
    return result


def run(family, kind):
    torch.manual_seed(0)
    folder = DATA / family / "base"
    config = transformers.AutoConfig.from_pretrained(folder)
    architecture = config.architectures[0]
    task = "SEQ_CLS" if architecture.endswith("Classification") else "CAUSAL_LM"
    model = getattr(transformers, architecture).from_pretrained(folder, attn_implementation="eager")
    model = peft.get_peft_model(model, KINDS[kind](num_virtual_tokens=TOKENS, task_type=task)).double().eval()
    encoder = model.prompt_encoder["default"]
    tensors = dict(encoder.named_parameters())
    all_parts = parts(kind, encoder, config.num_hidden_layers)
    with torch.no_grad():
        for theirs, ours, take in all_parts:
            part = take(tensors[theirs])
            part.copy_(sines(ours, part.shape))
    length = max(len(row) for row in ROWS)
    ids = torch.tensor([row + [config.pad_token_id or 0] * (length - len(row)) for row in ROWS])
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in ROWS])
    labels = torch.tensor([1, 0]) if task == "SEQ_CLS" else torch.where(mask == 1, ids, -100)
    logits = model(input_ids=ids, attention_mask=mask).logits
    if task == "CAUSAL_LM":
        # Virtual tokens have no labels. transformers computes this loss in float32.
        labels = torch.nn.functional.pad(labels, (logits.shape[1] - length, 0), value=-100)
        logits, labels = logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten()
    loss = torch.nn.functional.cross_entropy(logits, labels)
    loss.backward()
    gradients = {}
    for theirs, ours, take in all_parts:
        gradient = take(tensors[theirs].grad)
        product = (gradient * sines(f"{ours}.pattern", gradient.shape)).sum()
        gradients[ours] = [float(gradient.norm()), float(product)]
    return {"family": family, "kind": kind, "loss": float(loss.detach()), "gradients": gradients}


def main():
    transformers.utils.logging.disable_progress_bar()
    versions = {module.__name__: module.__version__.split("+")[0] for module in [torch, transformers, peft]}
    cases = [run(family, kind) for family in ("bert", "roberta", "gpt2", "qwen2") for kind in KINDS]
    json.dump({"versions": versions, "tokens": TOKENS, "size": SIZE, "rows": ROWS, "cases": cases}, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
