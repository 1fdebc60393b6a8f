"""
Writes the rates that PEFT's LoRA+ gives to the parameters of small models, with this library's names of tensors.

Usage: python test/interop/lora-plus.py > test/interop/lora-plus.json (torch, transformers, peft)
"""
import json
import pathlib
import re

import peft
import torch
import transformers
from peft.optimizers import create_loraplus_optimizer

DATA = pathlib.Path(__file__).resolve().parent.parent / "interop-data"
LR, RATIO, DECAY = 0.5, 16, 0.25
CASES = [("bert", "SEQ_CLS", {}), ("bert", "SEQ_CLS", {"bias": "all"}), ("bert", "SEQ_CLS", {"use_dora": True}),
         ("bert", "SEQ_CLS", {"modules_to_save": ["classifier", "1.output.LayerNorm"]}),
         ("gpt2", "CAUSAL_LM", {"bias": "lora_only"}), ("llama", "CAUSAL_LM", {"modules_to_save": ["embed_tokens"]})]


def own_name(name):
    name = name.removeprefix("base_model.model.").replace(".modules_to_save.", ".").replace(".base_layer.", ".")
    return re.sub(r"\.default(?=\.|$)", "", name).replace("lora_magnitude_vector.weight", "lora_magnitude_vector")


def case(family, task, options):
    folder = DATA / family / "base"
    architecture = transformers.AutoConfig.from_pretrained(folder).architectures[0]
    base = getattr(transformers, architecture).from_pretrained(folder)
    model = peft.get_peft_model(base, peft.LoraConfig(r=2, task_type=task, **options))
    optimizer = create_loraplus_optimizer(
        model, torch.optim.AdamW, lr=LR, loraplus_lr_ratio=RATIO, loraplus_weight_decay=DECAY)
    of = {id(each): group for group in optimizer.param_groups for each in group["params"]}
    settings = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            group = of[id(parameter)]
            settings[own_name(name)] = [group["lr"], group["weight_decay"]]
    return {"family": family, "options": options, "settings": settings}


print(json.dumps({"peft": peft.__version__, "learningRate": LR, "ratio": RATIO, "weightDecay": DECAY,
                  "cases": [case(*each) for each in CASES]}, indent=1))
