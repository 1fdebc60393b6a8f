"""
Writes DPO's losses, rewards, gradients and a short training run of small decoders with LoRA, computed in float64 from the papers'
formulas: the reference is the base with the adapter switched off.

Usage: python test/interop/dpo.py > test/interop/dpo.json (torch, transformers, peft)
"""
import json
import pathlib
import re

import peft
import torch
import transformers
from torch.nn.functional import logsigmoid

TEST = pathlib.Path(__file__).resolve().parent.parent
BETA, RATE, STEPS, BATCH = 0.3, 5e-3, 5, 3
MODELS = [
    ("golden-families/qwen3-left", ["q_proj", "v_proj"], [("sigmoid", 0), ("sigmoid", 0.2), ("ipo", 0), ("hinge", 0)], STEPS),
    ("golden-families/gemma2-left", ["v_proj"], [("sigmoid", 0)], 0),  # A soft cap.
    ("interop-data/llama/base", ["v_proj", "lm_head"], [("sigmoid", 0)], 0),  # A last projection that learns.
]


def own_name(name):
    return re.sub(r"\.default(?=\.|$)", "", name.removeprefix("base_model.model."))


def rounded(tensor):
    return [float(f"{x:.9g}") for x in tensor.detach().flatten().tolist()]


def draw_pairs(vocabulary, count=5):
    draw = lambda n: torch.randint(3, vocabulary, (n,)).tolist()
    lengths = [(3, 4, 6), (5, 2, 2), (1, 7, 3), (4, 5, 1), (2, 3, 8)]
    return [{"prompt": draw(p), "chosen": draw(c), "rejected": draw(r)} for p, c, r in lengths[:count]]


def log_probabilities(model, pairs, mean):
    """Sums, or means, of the answers' tokens: [chosen, rejected] of each pair."""
    rows = [(pair["prompt"], pair[which]) for pair in pairs for which in ("chosen", "rejected")]
    length = max(len(p) + len(a) for p, a in rows)
    ids = torch.tensor([p + a + [0] * (length - len(p) - len(a)) for p, a in rows])
    mask = torch.tensor([[i < len(p) + len(a) for i in range(length)] for p, a in rows]).long()
    counts = torch.tensor([[len(p) <= i < len(p) + len(a) for i in range(1, length)] for p, a in rows])
    logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
    each = logits.log_softmax(-1).gather(-1, ids[:, 1:, None]).squeeze(-1)
    total = (each * counts).sum(-1)
    return (total / counts.sum(-1) if mean else total).reshape(-1, 2)


def loss_of(model, pairs, kind, smoothing):
    with torch.no_grad(), model.disable_adapter():
        reference = log_probabilities(model, pairs, kind == "ipo")
    rewards = BETA * (log_probabilities(model, pairs, kind == "ipo") - reference)
    margin = rewards[:, 0] - rewards[:, 1]
    losses = {
        "sigmoid": -(1 - smoothing) * logsigmoid(margin) - smoothing * logsigmoid(-margin),
        "ipo": (margin / BETA - 1 / (2 * BETA)) ** 2,
        "hinge": torch.relu(1 - margin),
    }
    return losses[kind].mean(), rewards


def case(folder, targets, kinds, steps):
    torch.manual_seed(7)
    architecture = transformers.AutoConfig.from_pretrained(TEST / folder).architectures[0]
    base = getattr(transformers, architecture).from_pretrained(
        TEST / folder, dtype=torch.float64, attn_implementation="eager")
    model = peft.get_peft_model(base, peft.LoraConfig(r=2, lora_alpha=4, target_modules=targets)).double().eval()
    trained = {own_name(name): p for name, p in model.named_parameters() if p.requires_grad}
    start = {name: (0.3 * torch.randn(p.shape)).double() for name, p in trained.items()}
    pairs = draw_pairs(base.config.vocab_size)

    def restart():
        with torch.no_grad():
            for name, parameter in trained.items():
                parameter.copy_(start[name])
                parameter.grad = None

    results = []
    for kind, smoothing in kinds:
        restart()
        loss, rewards = loss_of(model, pairs[:BATCH], kind, smoothing)
        loss.backward()
        results.append({"loss": kind, "labelSmoothing": smoothing, "value": loss.item(), "rewards": rounded(rewards),
                        "gradients": {name: rounded(p.grad) for name, p in trained.items()}})
    result = {"folder": folder, "targets": targets, "pairs": pairs,
              "start": {name: {"shape": list(t.shape), "data": rounded(t)} for name, t in start.items()},
              "results": results}
    if steps:
        restart()
        optimizer = torch.optim.AdamW(trained.values(), lr=RATE, weight_decay=0)
        batches, losses = [pairs[:BATCH], pairs[BATCH:]], []
        for step in range(steps):
            optimizer.zero_grad()
            loss, _ = loss_of(model, batches[step % 2], "sigmoid", 0)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        result["run"] = {"losses": losses, "tensors": {name: rounded(p) for name, p in trained.items()}}
    return result


print(json.dumps({"torch": torch.__version__.split("+")[0], "transformers": transformers.__version__, "peft": peft.__version__,
                  "beta": BETA, "learningRate": RATE, "batch": BATCH, "cases": [case(*each) for each in MODELS]}))
