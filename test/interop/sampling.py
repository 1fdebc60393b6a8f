"""Scores of a next token after transformers' processors and warpers, in float64 and in the order in which `generate` applies them,
as expected by test/pure/sampling.test.ts.

Usage: python test/interop/sampling.py > test/interop/sampling.json
"""

import json
import sys

import torch
import transformers
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel

VOCABULARY = 24
SETTINGS = [
    {},
    {"temperature": 0.6},
    {"temperature": 1.7, "top_k": 0},
    {"top_k": 5},
    {"top_k": 100},
    {"top_k": 0, "top_p": 0.8},
    {"top_k": 0, "top_p": 0.0},
    {"top_k": 0, "min_p": 0.1},
    {"top_k": 7, "top_p": 0.9},
    {"temperature": 0.7, "top_k": 12, "top_p": 0.85, "min_p": 0.2},
    {"repetition_penalty": 1.3},
    {"repetition_penalty": 0.8, "temperature": 1.4, "top_k": 6},
    {"repetition_penalty": 1.2, "no_repeat_ngram_size": 2, "temperature": 0.9, "top_k": 10, "top_p": 0.95, "min_p": 0.02},
]


def main():
    torch.manual_seed(0)
    config = GPT2Config(vocab_size=VOCABULARY, n_embd=8, n_layer=1, n_head=1, bos_token_id=None, eos_token_id=None)
    model = GPT2LMHeadModel(config)
    rows = []
    for seed in range(4):
        generator = torch.Generator().manual_seed(seed)
        scores = 2.5 * torch.randn(1, VOCABULARY, generator=generator, dtype=torch.float64)
        if seed == 3:
            # Equal scores at the limit of top-k.
            scores = scores.round()
        ids = torch.randint(0, VOCABULARY, (1, 9), generator=generator)
        # The last token has occurred before, so that n-grams of two tokens are banned.
        ids = torch.cat([ids, ids[:, 2:3]], dim=1)
        rows.append((scores, ids))
    cases = []
    for settings in SETTINGS:
        wanted = GenerationConfig(do_sample=True, **settings)
        wanted.update(**GenerationConfig._get_default_generation_params(), defaults_only=True)
        processors = model._get_logits_processor(wanted, input_ids_seq_length=10, device="cpu")
        results = []
        for scores, ids in rows:
            processed = processors(ids, scores.clone())
            kept = processed.isfinite()[0]
            probabilities = processed.softmax(-1)[0]
            results.append({"kept": kept.nonzero()[:, 0].tolist(), "probabilities": probabilities[kept].tolist()})
        cases.append({"settings": settings, "results": results})
    given = [{"scores": scores[0].tolist(), "ids": ids[0].tolist()} for scores, ids in rows]
    versions = {module.__name__: module.__version__ for module in [torch, transformers]}
    json.dump({"versions": versions, "rows": given, "cases": cases}, sys.stdout)
    print()


if __name__ == "__main__":
    main()
