"""Losses and gradients of packed rows by transformers in float64, and orders of its groups by length, as expected by
test/runs/packing.test.ts and test/pure/data-packing.test.ts.

Usage: python test/interop/packing.py > test/interop/packing.json
"""

import json
from pathlib import Path

import torch
import transformers
from transformers import AutoModelForCausalLM
from transformers.trainer_pt_utils import get_length_grouped_indices

TESTS = Path(__file__).parent.parent
MODELS = [
    "interop-data/gpt2/base",
    "interop-data/llama/base",
    "golden-families/qwen3-lora",
    "golden-families/gemma3-lora",
    "golden-families/phi3-lora",
]
# Two rows of texts; the second row ends in padding. Tokens below are labels from this place on.
ROWS = [[(9, 4), (4, 1), (8, 5)], [(11, 6), (7, 2)]]


def packed_rows():
    """Ids, labels and positions of the rows. A text's first token has no label."""
    rows = []
    for number, texts in enumerate(ROWS):
        ids, labels, positions = [], [], []
        for text, (length, first_label) in enumerate(texts):
            own = [3 + (17 * number + 5 * text + i * i + 2 * i) % 40 for i in range(length)]
            ids += own
            labels += [token if i >= first_label else -100 for i, token in enumerate(own)]
            positions += range(length)
        rows.append((ids, labels, positions))
    return rows


def gradients(name):
    model = AutoModelForCausalLM.from_pretrained(TESTS / name, dtype=torch.float64).eval()
    rows = packed_rows()
    labelled = sum(label != -100 for _, labels, _ in rows for label in labels)
    total = 0.0
    for ids, labels, positions in rows:
        # Without a mask, transformers finds the texts by their positions, and keeps windows.
        out = model(
            input_ids=torch.tensor([ids]),
            position_ids=torch.tensor([positions]),
            labels=torch.tensor([labels]),
            num_items_in_batch=labelled,
            use_cache=False,
        )
        out.loss.backward()
        total += out.loss.item()
    chosen = {}
    for parameter, tensor in model.named_parameters():
        if "layers.1." in parameter or "h.1." in parameter or "embed_tokens" in parameter or "wpe" in parameter:
            chosen[parameter] = tensor.grad.norm().item()
    return {"model": name, "loss": total, "gradients": chosen}


def groups():
    generator = torch.Generator().manual_seed(5)
    cases = []
    for count, size in [(41, 3), (900, 4), (6, 8)]:
        lengths = torch.randint(1, 30, (count,), generator=generator).tolist()
        seed = 100 + count
        order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
        grouped = get_length_grouped_indices(lengths, size, generator=torch.Generator().manual_seed(seed))
        cases.append({"size": size, "lengths": lengths, "order": order, "grouped": grouped})
    return cases


if __name__ == "__main__":
    rows = [{"ids": ids, "labels": labels, "lengths": [length for length, _ in texts]}
            for (ids, labels, _), texts in zip(packed_rows(), ROWS)]
    print(json.dumps({
        "transformers": transformers.__version__,
        "rows": rows,
        "models": [gradients(name) for name in MODELS],
        "groups": groups(),
    }))
