"""Computes losses and gradients of PEFT's prefix tuning, prompt tuning and P-tuning in float64, losses of steps of AdamW, and what
encoder-decoders write, to which test/runs/prefix-tuning.test.ts compares the engine.

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

from options import task_of

DATA = pathlib.Path(__file__).resolve().parent.parent / "interop-data"
ROWS = [[2, 5, 7, 9, 11, 13, 17], [3, 4, 8, 6]]
TARGETS = [[21, 4, 33, 8, 1], [12, 40, 1]]
TOKENS, SIZE = 3, 5
STEPS, RATE = 4, 0.01
NEW_TOKENS, BEAMS = 6, 3
# BART's files say what its last token is.
ENDLESS = {"forced_eos_token_id": None}
KINDS = {
    "prefix tuning": peft.PrefixTuningConfig,
    "prefix tuning with a projection": lambda **options: peft.PrefixTuningConfig(prefix_projection=True, encoder_hidden_size=SIZE, **options),
    "prompt tuning": peft.PromptTuningConfig,
    "P-tuning": lambda **options: peft.PromptEncoderConfig(encoder_hidden_size=SIZE, **options),
}


def sines(name, shape):
    """0.5 sin(0.7 i + the sum of the name's character codes)."""
    phase = sum(ord(c) for c in name)
    return 0.5 * torch.sin(0.7 * torch.arange(torch.Size(shape).numel(), dtype=torch.float64) + phase).reshape(shape)


def parts(kind, encoder, layers):
    """The library's names of an encoder's tensors, each with a function that takes its part of a PEFT tensor or of a gradient."""
    whole = lambda tensor: tensor
    # For encoder-decoders there are as many rows more, which nothing reads.
    read = lambda tensor: tensor[:TOKENS]
    if kind == "prompt tuning":
        return [("embedding.weight", "prompt_embeddings", read)]
    if kind == "P-tuning":
        names = [f"mlp_head.{i}.{part}" for i in (0, 2, 4) for part in ("weight", "bias")]
        return [("embedding.weight", "prompt_encoder.embedding", read), *((name, f"prompt_encoder.{name}", whole) for name in names)]
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


def run(family, kind, changes):
    torch.manual_seed(0)
    folder = DATA / family / "base"
    config = transformers.AutoConfig.from_pretrained(folder, **changes)
    architecture = config.architectures[0]
    model = getattr(transformers, architecture).from_pretrained(folder, config=config, attn_implementation="eager")
    task = task_of(model)
    model = peft.get_peft_model(model, KINDS[kind](num_virtual_tokens=TOKENS, task_type=task)).double().eval()
    encoder = model.prompt_encoder["default"]
    tensors = dict(encoder.named_parameters())
    all_parts = parts(kind, encoder, config.num_hidden_layers)
    with torch.no_grad():
        for theirs, ours, take in all_parts:
            part = take(tensors[theirs])
            part.copy_(sines(ours, part.shape))
    ids, mask = padded(ROWS, config.pad_token_id or 0), padded([[1] * len(row) for row in ROWS], 0)
    inputs = {"input_ids": ids, "attention_mask": mask}
    labels = {"SEQ_CLS": torch.tensor([1, 0]), "CAUSAL_LM": torch.where(mask == 1, ids, -100), "SEQ_2_SEQ_LM": padded(TARGETS, -100)}[task]

    def loss():
        if task == "SEQ_2_SEQ_LM":
            # transformers shifts these to what the decoder reads.
            return torch.nn.functional.cross_entropy(model(**inputs, labels=labels).logits.flatten(0, 1), labels.flatten())
        logits = model(**inputs).logits
        if task == "SEQ_CLS":
            return torch.nn.functional.cross_entropy(logits, labels)
        # Virtual tokens have no labels. transformers computes this loss in float32.
        tokens = torch.nn.functional.pad(labels, (logits.shape[1] - ids.shape[1], 0), value=-100)
        return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())

    case = {"family": family, "kind": kind, "changes": changes}
    if task == "SEQ_2_SEQ_LM":
        case["written"] = {beams: written(model, inputs, beams) for beams in (1, BEAMS)}
    optimizer = torch.optim.AdamW([each for each in model.parameters() if each.requires_grad], lr=RATE, weight_decay=0)
    case["losses"] = []
    for step in range(STEPS):
        optimizer.zero_grad()
        current = loss()
        current.backward()
        case["losses"].append(float(current.detach()))
        if step == 0:
            case["gradients"] = {}
            for theirs, ours, take in all_parts:
                gradient = take(tensors[theirs].grad)
                product = (gradient * sines(f"{ours}.pattern", gradient.shape)).sum()
                case["gradients"][ours] = [float(gradient.norm()), float(product)]
        optimizer.step()
    return case


def padded(rows, value):
    length = max(len(row) for row in rows)
    return torch.tensor([row + [value] * (length - len(row)) for row in rows])


def written(model, inputs, beams):
    """What a decoder writes, never at an end, and behind its start. transformers' cache has as many layers as the encoder."""
    model.base_model.generation_config.update(eos_token_id=None, forced_eos_token_id=None)
    with torch.no_grad():
        return model.generate(**inputs, max_new_tokens=NEW_TOKENS, num_beams=beams, do_sample=False, use_cache=False)[:, 1:].tolist()


def main():
    transformers.utils.logging.disable_progress_bar()
    versions = {module.__name__: module.__version__.split("+")[0] for module in [torch, transformers, peft]}
    cases = [run(family, kind, {}) for family in ("bert", "roberta", "gpt2", "qwen2") for kind in KINDS]
    prompts = ("prompt tuning", "P-tuning")
    cases += [run(family, kind, changes) for family, changes in (("t5", {}), ("bart", ENDLESS), ("bart", {**ENDLESS, "scale_embedding": True})) for kind in prompts]
    sizes = {"tokens": TOKENS, "size": SIZE, "rate": RATE, "newTokens": NEW_TOKENS}
    json.dump({"versions": versions, **sizes, "rows": ROWS, "targets": TARGETS, "cases": cases}, sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
