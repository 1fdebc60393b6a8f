"""Exchanges adapters between this library and PEFT in both directions and compares their logits.

Usage: python test/interop/check.py WORK_DIRECTORY [RESULT.json]

Needs torch, transformers, peft and safetensors; run it in the repository's root after `npm ci`. Python loads the adapters
that `npm run interop:write` trains and writes, for every family and kind that both sides have. `npm run interop` loads
adapters with random values that Python writes, also for models with other heads and position encodings. Logits must agree
to 1e-4, and keys and shapes must be those that PEFT writes.
"""
import json
import pathlib
import shutil
import subprocess
import sys

import peft
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import (AutoModelForCausalLM, AutoModelForImageClassification, AutoModelForSeq2SeqLM,
                          AutoModelForSequenceClassification)

LIMIT = 1e-4
ROOT = pathlib.Path(__file__).resolve().parent.parent
BASES = ROOT / "interop-data"
CLASSIFIERS = ["bert", "roberta", "xlm-roberta", "distilbert", "electra", "albert", "mpnet", "modernbert",
               "deberta-v3"]
IMAGES = ["vit", "deit", "dinov2", "swin", "swinv2"]
DECODERS = ["gpt2", "llama", "qwen2"]
ENCODER_DECODERS = ["t5", "bart"]
AUTO = {
    **{family: AutoModelForSequenceClassification for family in CLASSIFIERS},
    **{family: AutoModelForCausalLM for family in DECODERS},
    **{family: AutoModelForSeq2SeqLM for family in ENCODER_DECODERS},
    **{family: AutoModelForImageClassification for family in IMAGES},
}
TASK = {**{family: "SEQ_CLS" for family in CLASSIFIERS}, **{family: "CAUSAL_LM" for family in DECODERS},
        **{family: "SEQ_2_SEQ_LM" for family in ENCODER_DECODERS}, **{family: None for family in IMAGES}}
TARGETS = {**{family: ["query", "value"] for family in CLASSIFIERS}, "distilbert": ["q_lin", "v_lin"], "mpnet": ["q", "v"],
           "modernbert": ["Wqkv"], "deberta-v3": ["query_proj", "value_proj"], "gpt2": ["c_attn"], "t5": ["q", "v"],
           **{family: ["q_proj", "v_proj"] for family in ["llama", "qwen2", "bart"]},
           **{family: ["q_proj", "v_proj"] for family in IMAGES}, "swinv2": ["query", "value"]}
# Families whose modules PEFT chooses itself for (IA)3.
IA3 = ["bert", "roberta", "gpt2", "llama"]


def base(family):
    model = AUTO[family].from_pretrained(BASES / family / "base").to(torch.float64).eval()
    if family in ENCODER_DECODERS:
        # PEFT asks for this method of generation, which transformers 5 renamed and nothing here calls.
        model._prepare_encoder_decoder_kwargs_for_generation = None
    # Needed by classification heads of causal families, and harmless elsewhere.
    model.config.pad_token_id = model.config.pad_token_id if getattr(model.config, "pad_token_id", None) is not None else 0
    return model


def logits(model, inputs):
    kwargs = {"pixel_values": inputs["pixel_values"].double()} if "pixel_values" in inputs else {
        "input_ids": inputs["input_ids"].long(), "attention_mask": inputs["attention_mask"].long()}
    if "decoder_input_ids" in inputs:
        kwargs["decoder_input_ids"] = inputs["decoder_input_ids"].long()
    with torch.no_grad():
        return model(**kwargs).logits


def error(actual, expected):
    return float((actual.double() - expected.double()).abs().max() / expected.double().abs().max())


def config_of(family, kind):
    common = {"task_type": TASK[family]}
    heads = {} if TASK[family] else {"modules_to_save": ["classifier"]}
    if kind in ("lora", "dora"):
        return peft.LoraConfig(r=5, lora_alpha=7, use_dora=kind == "dora", target_modules=TARGETS[family], **common, **heads)
    if kind == "adalora":
        return peft.AdaLoraConfig(init_r=4, target_r=2, total_step=10, target_modules=TARGETS[family], **common, **heads)
    if kind == "vera":
        return peft.VeraConfig(r=6, target_modules=TARGETS[family], **common, **heads)
    if kind == "ia3":
        return peft.IA3Config(**common)
    return peft.PromptTuningConfig(num_virtual_tokens=3, **common)


def kinds_of(family):
    return ["lora", "dora", "adalora", "vera"] + (["ia3", "prompt"] if family in IA3 else [])


def python_writes(work):
    """Saves adapters with random values, and their logits after PEFT has loaded them again."""
    torch.manual_seed(3)
    for family in AUTO:
        shutil.copytree(BASES / family / "base", work / family / "base")
        for kind in kinds_of(family):
            model = peft.get_peft_model(base(family), config_of(family, kind))
            for name, parameter in model.named_parameters():
                if parameter.requires_grad:
                    parameter.data = parameter.data + 0.1 * torch.randn_like(parameter)
            folder = work / family / kind
            model.float().save_pretrained(folder)
            inputs = load_file(ours / family / kind / "expected.safetensors")
            inputs.pop("logits")
            reloaded = peft.PeftModel.from_pretrained(base(family), folder).to(torch.float64).eval()
            save_file({**inputs, "logits": logits(reloaded, inputs).float().contiguous()}, folder / "expected.safetensors")


SMALL = {"vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
         "intermediate_size": 48, "max_position_embeddings": 512}
LLAMA_3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
           "original_max_position_embeddings": 64, "rope_theta": 500000.0}


def more_models():
    """Models of heads and position encodings for which the repository has no checkpoint: name, model, targets, task."""
    t = transformers
    grouped = {**SMALL, "num_key_value_heads": 2}
    linear = {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}
    gpt2 = t.GPT2Config(vocab_size=61, n_embd=32, n_layer=2, n_head=4, n_positions=512)
    text = [
        ("llama-3", t.LlamaConfig(**grouped, rope_parameters=LLAMA_3), ["q_proj", "v_proj"]),
        ("llama-3-all-linear", t.LlamaConfig(**grouped, rope_parameters=LLAMA_3), "all-linear"),
        ("llama-linear", t.LlamaConfig(**SMALL, rope_parameters=linear), ["q_proj"]),
    ]
    answers = [
        ("llama-answers", t.LlamaForQuestionAnswering(t.LlamaConfig(**grouped)), TARGETS["llama"]),
        ("gpt2-answers", t.GPT2ForQuestionAnswering(gpt2), TARGETS["gpt2"]),
        ("bert-answers", t.BertForQuestionAnswering(t.BertConfig(**SMALL)), TARGETS["bert"]),
        ("roberta-answers", t.RobertaForQuestionAnswering(t.RobertaConfig(**SMALL, pad_token_id=1)), TARGETS["roberta"]),
    ]
    causal = [(name, t.LlamaForCausalLM(config), targets, "CAUSAL_LM") for name, config, targets in text]
    return causal + [(*answer, "QUESTION_ANS") for answer in answers]


def python_writes_more(work):
    """Saves the models of `more_models` with random weights and a LoRA for each, with logits on texts of 200 tokens."""
    torch.manual_seed(4)
    for name, model, targets, task in more_models():
        for parameter in model.parameters():
            parameter.data = parameter.data + 0.05 * torch.randn_like(parameter)
        model.eval().save_pretrained(work / name / "base")
        adapted = peft.get_peft_model(model, peft.LoraConfig(r=3, lora_alpha=5, target_modules=targets, task_type=task))
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.data = 0.1 * torch.randn_like(parameter)
        adapted.eval().save_pretrained(work / name / "lora")
        ids = torch.randint(3, 61, (2, 200))
        inputs = {"input_ids": ids.int(), "attention_mask": torch.ones_like(ids).int()}
        with torch.no_grad():
            out = adapted.double()(input_ids=ids, attention_mask=inputs["attention_mask"])
        expected = out["logits"] if "logits" in out else torch.stack([out["start_logits"], out["end_logits"]], -1)
        save_file({**inputs, "logits": expected.float().contiguous()}, work / name / "lora" / "expected.safetensors")


def python_loads(family, kind, folder):
    """Loads an adapter of this library. Returns the error of its logits, and keys and shapes that differ from PEFT's."""
    expected = load_file(folder / "expected.safetensors")
    model = peft.PeftModel.from_pretrained(base(family), folder).to(torch.float64).eval()
    ours = {key: list(tensor.shape) for key, tensor in load_file(folder / "adapter_model.safetensors").items()}
    saved_again = folder.parent / f"{kind}-again"
    model.float().save_pretrained(saved_again)
    theirs = {key: list(tensor.shape) for key, tensor in load_file(saved_again / "adapter_model.safetensors").items()}
    model = model.to(torch.float64)
    differing = {f"{key} {shape}" for key, shape in ours.items()} ^ {f"{key} {shape}" for key, shape in theirs.items()}
    return error(logits(model, expected), expected["logits"]), sorted(differing)


def npm(*arguments):
    subprocess.run(["npm", "run", "-s", *arguments], check=True, cwd=ROOT.parent, stdout=subprocess.DEVNULL)


work = pathlib.Path(sys.argv[1]).resolve()
shutil.rmtree(work, ignore_errors=True)
ours, theirs, back = work / "ours", work / "python", work / "back"
npm("interop:write", "--", str(BASES), "--out", str(ours))
python_writes(theirs)
python_writes_more(theirs)
npm("interop", "--", str(theirs), "--out", str(back))

cases, failures = [], []
for direction, directory in (("written here, loaded by Python", ours), ("written by Python, loaded here", theirs)):
    for family in sorted(path.name for path in directory.iterdir() if path.is_dir()):
        for folder in sorted(path for path in (directory / family).iterdir() if (path / "adapter_config.json").exists()):
            if folder.name.endswith("-again"):
                continue
            if directory == ours:
                worst, keys = python_loads(family, folder.name, folder)
            else:
                actual = load_file(back / family / folder.name / "actual.safetensors")["logits"]
                worst, keys = error(actual, load_file(folder / "expected.safetensors")["logits"]), []
            case = {"direction": direction, "case": f"{family}/{folder.name}", "error": worst, "keysThatDiffer": keys}
            print(f"{direction}: {case['case']:22} {worst:.1e} {keys or ''}")
            cases.append(case)
            if worst > LIMIT or keys:
                failures.append(case)

result = {
    "versions": {"python": sys.version.split()[0], "torch": torch.__version__,
                 "transformers": transformers.__version__, "peft": peft.__version__},
    "limit": LIMIT,
    "worst": max(case["error"] for case in cases),
    "cases": cases,
}
if len(sys.argv) > 2:
    pathlib.Path(sys.argv[2]).write_text(json.dumps(result, indent=1) + "\n")
print(f"{len(cases) - len(failures)} of {len(cases)} agree; worst {result['worst']:.1e}")
sys.exit(1 if failures else 0)
