"""Generates continuations with transformers for the checkpoints of test/interop-data, as expected by
test/device/generate.test.ts.

Usage: python test/interop/generate.py > test/interop/generate.json
"""

import json
import sys
from pathlib import Path

import peft
import torch
import transformers
from peft import PeftConfig, PeftModel
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

DATA = Path(__file__).parent.parent / "interop-data"
PROMPTS = [[5, 17, 3, 60, 22], [41], [7, 7, 12, 30, 9, 2, 55, 71, 18, 18, 4, 33, 26, 49, 80, 1, 13], [64, 12, 64, 12, 64]]
SEARCHES = {
    "greedy": {"max_new_tokens": 20},
    "greedy, no three tokens twice": {"max_new_tokens": 20, "no_repeat_ngram_size": 3},
    "3 beams": {"max_new_tokens": 12, "num_beams": 3},
    "10 beams, length penalty 0.8, no four tokens twice": {
        **{"max_new_tokens": 16, "num_beams": 10, "length_penalty": 0.8, "no_repeat_ngram_size": 4}
    },
    "4 beams, favouring long texts": {"max_new_tokens": 14, "num_beams": 4, "length_penalty": 2.0},
    "4 beams, stopping early": {"max_new_tokens": 14, "num_beams": 4, "early_stopping": True},
    "greedy, tokens that occurred are less likely": {"max_new_tokens": 12, "repetition_penalty": 1.3},
    "3 beams, tokens that occurred are less likely": {"max_new_tokens": 12, "num_beams": 3, "repetition_penalty": 1.2},
}


def uses_cache(model):
    """Not for encoder-decoders: transformers 5.18 makes caches for as many decoder layers as the encoder has."""
    return not model.config.is_encoder_decoder


def ends_of(model):
    """End tokens for which some continuations end and others do not: the last tokens of two greedy continuations."""
    tokens = []
    for prompt in PROMPTS[:2]:
        ids = torch.tensor([prompt])
        out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=9, eos_token_id=-1, pad_token_id=0, use_cache=uses_cache(model))
        tokens.append(int(out[0, -1]))
    return sorted(set(tokens))


def run(model, prompt, search, ends):
    ids = torch.tensor([prompt])
    out = model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        do_sample=False,
        eos_token_id=ends,
        pad_token_id=0,
        use_cache=uses_cache(model),
        return_dict_in_generate=True,
        output_scores=True,
        **search,
    )
    # A decoder beside an encoder begins with its start token.
    start = 1 if model.config.is_encoder_decoder else len(prompt)
    new = out.sequences[0, start:].tolist()
    end = next((i for i, token in enumerate(new) if token in ends), None)
    score = float(out.sequences_scores[0]) if search.get("num_beams", 1) > 1 else None
    return {"ids": new if end is None else new[:end], "hasEnded": end is not None, **({} if score is None else {"score": score})}


def main():
    torch.manual_seed(0)
    cases = []
    for family in ["gpt2", "llama", "t5", "bart"]:
        is_seq2seq = family in ("t5", "bart")
        for adapter in ["base", "lora"] + ([] if is_seq2seq else ["prompt", "prefix-tuning"]):
            auto = AutoModelForSeq2SeqLM if is_seq2seq else AutoModelForCausalLM
            model = auto.from_pretrained(DATA / family / "base", dtype=torch.float64).eval()
            ends = ends_of(model)
            if adapter != "base":
                config = PeftConfig.from_pretrained(DATA / family / adapter)
                if is_seq2seq:
                    # PEFT's class for encoder-decoders calls what transformers no longer has.
                    config.task_type = None
                model = PeftModel.from_pretrained(model, DATA / family / adapter, config=config).to(torch.float64).eval()
            for name, search in SEARCHES.items():
                # transformers counts virtual tokens when it looks for repeated tokens; in this library they have no ids.
                if adapter == "prompt" and ("no_repeat_ngram_size" in search or "repetition_penalty" in search):
                    continue
                texts = [run(model, prompt, search, ends) for prompt in PROMPTS]
                cases.append({"family": family, "adapter": adapter, "search": name, "endIds": ends, "texts": texts})
    versions = {module.__name__: module.__version__ for module in [torch, transformers, peft]}
    json.dump({"versions": versions, "prompts": PROMPTS, "searches": SEARCHES, "cases": cases}, sys.stdout)
    print()


if __name__ == "__main__":
    main()
