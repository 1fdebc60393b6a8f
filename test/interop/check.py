"""Exchanges adapters between this library and PEFT in both directions and compares their logits.

Usage: python test/interop/check.py WORK_DIRECTORY [RESULT.json] [--only FAMILY ...] [--kinds KIND ...]

Needs torch, transformers, peft and safetensors; run it in the repository's root after `npm ci`. Python loads the adapters
that `npm run interop:write` trains and writes, for every family of the library and every kind that both sides have. Then
`npm run interop` loads adapters with random values that Python writes, also for models with other position encodings. Logits
must agree to 1e-4, and keys and shapes must be those that PEFT writes. `--only` checks the families whose names begin so,
`--kinds` these kinds of adapters of every family without further heads, such as dora; both replace their cases in RESULT.json.
"""
import argparse
import json
import pathlib
import shutil
import subprocess
import sys

import peft
import torch
import transformers
from peft.utils import constants
from safetensors.torch import load_file, save_file

from options import adapted as with_options
from options import PREFIXES, PROMPTS, option_kinds, prompt_config, takes_prefix, task_of
from options import save as save_with_options

LIMIT = 1e-4
TESTS = pathlib.Path(__file__).resolve().parent.parent
# Small random models that transformers wrote, by family.
CHECKPOINTS = {
    **{path.name.removesuffix("-lora"): path for path in sorted((TESTS / "golden-families").glob("*-lora"))},
    "flan-t5": TESTS / "golden/flan-t5-lora",
    **{path.parent.name: path for path in sorted((TESTS / "interop-data").glob("*/base"))},
}
# Modules of attention, by `model_type`, where PEFT does not choose any itself.
IMAGES = ["q_proj", "v_proj"]
TARGETS = {**constants.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING, "albert": ["query", "value"],
           "distilbert": ["q_lin", "v_lin"], "mpnet": ["q", "v"], "modernbert": ["Wqkv"], "phi3": ["qkv_proj"],
           "smollm3": ["q_proj", "v_proj"], "olmo2": ["q_proj", "v_proj"], "vit": IMAGES, "deit": IMAGES, "dinov2": IMAGES,
           "swin": IMAGES, "swinv2": ["query", "value"]}
# Ranks and alphas of the first layer.
PATTERNS = {"rank_pattern": {r".*\.0\..*": 2}, "alpha_pattern": {r".*\.0\..*": 4}}
# Kinds that PEFT has for torch.nn.Linear alone, and their options.
DROPOUT = {"rank_dropout": 0.1, "module_dropout": 0.1}
LINEAR = {"loha": (peft.LoHaConfig, {"r": 3, "alpha": 5, **DROPOUT, **PATTERNS}),
          "lokr": (peft.LoKrConfig, {"r": 1, "alpha": 3, **DROPOUT, "rank_dropout_scale": True, **PATTERNS}),
          "lokr-both": (peft.LoKrConfig, {"r": 1, "alpha": 3, "decompose_both": True, "decompose_factor": 4}),
          "lokr-full": (peft.LoKrConfig, {"r": 32, "alpha": 40, "init_weights": "lycoris"}),
          "oft": (peft.OFTConfig, {"oft_block_size": 8, "module_dropout": 0.1, "num_cayley_neumann_terms": 6}),
          "oft-inverse": (peft.OFTConfig, {"oft_block_size": 8, "block_share": True, "use_cayley_neumann": False}),
          "oft-blocks": (peft.OFTConfig, {"r": 3, "oft_block_size": 0}),
          "oft-near": (peft.OFTConfig, {"oft_block_size": 8, "coft": True, "eps": 0.3})}
# Further heads of texts' families.
HEADS = {"tokens": transformers.AutoModelForTokenClassification, "answers": transformers.AutoModelForQuestionAnswering,
         "classes": transformers.AutoModelForSequenceClassification}


def write_bases(directory, begins):
    """Copies every family's checkpoint, and saves it with the other heads that its family has: FAMILY-HEAD."""
    torch.manual_seed(5)
    for family, checkpoint in CHECKPOINTS.items():
        if not family.startswith(begins):
            continue
        config = transformers.AutoConfig.from_pretrained(checkpoint)
        folder = directory / family / "base"
        folder.mkdir(parents=True)
        for file in ("config.json", "model.safetensors"):
            shutil.copy(checkpoint / file, folder)
        is_decoder = config.architectures[0].endswith(("ForCausalLM", "LMHeadModel"))
        is_encoder = config.architectures[0].endswith("ForSequenceClassification")
        # Decoders classify no tokens here, and encoders' checkpoints are of classifiers already.
        heads = ["answers", "classes"] if is_decoder else ["tokens", "answers"] if is_encoder else []
        for head in [] if options.kinds else heads:
            if type(config) in HEADS[head]._model_mapping:
                model = HEADS[head].from_pretrained(
                    checkpoint,
                    num_labels=2 if head == "answers" else 5,
                    # A classifier of decoders reads the last token that is not padding.
                    pad_token_id=config.pad_token_id or 0,
                    ignore_mismatched_sizes=True,
                )
                model.save_pretrained(directory / f"{family}-{head}" / "base")


def base(family):
    folder = bases / family / "base"
    architecture = json.loads((folder / "config.json").read_text())["architectures"][0]
    # Only eager attention has Gemma's soft caps.
    model = getattr(transformers, architecture).from_pretrained(folder, attn_implementation="eager")
    return model.to(torch.float64).eval()


def adapted(family, folder):
    """A base model with an adapter that is loaded."""
    config = peft.PeftConfig.from_pretrained(folder)
    model = base(family)
    # PEFT decomposes no float64.
    if str(getattr(config, "init_lora_weights", None)).startswith(("pissa", "olora")):
        model = model.float()
    config.task_type = task_of(model)
    return peft.PeftModel.from_pretrained(model, folder, config=config).to(torch.float64).eval()


def logits(model, inputs):
    """A model's logits [rows, ...]: starts and ends of answers side by side."""
    floats = {name: tensor.double() if tensor.is_floating_point() else tensor.long() for name, tensor in inputs.items()}
    with torch.no_grad():
        out = model(**floats)
    return out["logits"] if "logits" in out else torch.stack([out["start_logits"], out["end_logits"]], -1)


def counted(logits, inputs):
    """Logits of texts' tokens, 0 at padding, where they mean nothing. Virtual tokens come before a text."""
    if logits.dim() < 3 or "decoder_input_ids" in inputs:
        return logits
    mask = inputs["attention_mask"]
    mask = torch.nn.functional.pad(mask, (logits.shape[1] - mask.shape[1], 0), value=1)
    return torch.where(mask[..., None] != 0, logits, 0)


def error(actual, expected, inputs):
    actual, expected = counted(actual, inputs).double(), counted(expected, inputs).double()
    return float((actual - expected).abs().max() / expected.abs().max())


def inputs_of(expected):
    return {name: tensor for name, tensor in expected.items() if name != "logits"}


def config_of(model, kind):
    common = {"task_type": task_of(model)}
    heads = {"modules_to_save": ["classifier"]} if model.main_input_name == "pixel_values" else {}
    targets = {"target_modules": TARGETS[model.config.model_type], **common, **heads}
    if kind in ("lora", "dora"):
        return peft.LoraConfig(r=5, lora_alpha=7, use_dora=kind == "dora", **targets)
    if kind == "adalora":
        return peft.AdaLoraConfig(init_r=4, target_r=2, total_step=10, **targets)
    if kind in LINEAR:
        make, further = LINEAR[kind]
        return make(**further, **targets)
    if kind == "vera":
        return peft.VeraConfig(r=6, **targets)
    if kind == "ia3":
        return peft.IA3Config(**common)
    if kind == "ln-tuning":
        # PEFT chooses norms for few families. Ends of paths also name norms in saved modules, which stay whole, and may name
        # modules without tensors (ModernBERT's first norm), at which PEFT fails.
        named = list(model.named_modules())
        norms = {name.split(".")[-1] for name, each in named if getattr(each, "weight", None) is not None and each.weight.dim() == 1}
        empty = {name.split(".")[-1] for name, each in named if isinstance(each, torch.nn.Identity)}
        return peft.LNTuningConfig(**{**targets, "target_modules": sorted(norms - empty)})
    return prompt_config(model, kind, task_of(model))


def has_ia3(model):
    """Whether PEFT chooses modules of a family for (IA)3."""
    return model.config.model_type in constants.TRANSFORMERS_MODELS_TO_IA3_TARGET_MODULES_MAPPING


def targets_of(model):
    ends = tuple(f".{name}" for name in TARGETS[model.config.model_type])
    return [name for name, _ in model.named_modules() if name.endswith(ends)]


def kinds_of(family, model):
    if family.endswith(tuple(f"-{head}" for head in HEADS)):
        return ["lora"]
    # Prompts for texts alone.
    prompts = bool(task_of(model)) * PROMPTS
    prefixes = bool(task_of(model) and takes_prefix(model)) * PREFIXES
    options = option_kinds(model, TARGETS[model.config.model_type])
    is_linear = all(type(model.get_submodule(name)) is torch.nn.Linear for name in targets_of(model))
    return ["lora", "dora", "adalora", "vera", "ln-tuning"] + is_linear * list(LINEAR) + has_ia3(model) * ["ia3"] + prompts + prefixes + list(options)


def python_writes(work):
    """Saves adapters with random values, and their logits after PEFT has loaded them again."""
    torch.manual_seed(3)
    for folder in sorted(bases.iterdir()):
        family = folder.name
        shutil.copytree(folder, work / family)
        for kind in kinds_of(family, base(family)):
            if options.kinds and kind not in options.kinds:
                continue
            model = base(family)
            folder = work / family / kind
            options_of_kind = option_kinds(model, TARGETS[model.config.model_type]).get(kind)
            if options_of_kind:
                save_with_options(with_options(model, kind, options_of_kind, task_of(model)), kind, folder)
            else:
                model = peft.get_peft_model(model, config_of(model, kind))
                for name, parameter in model.named_parameters():
                    if parameter.requires_grad:
                        # Products of random numbers are small.
                        parameter.data = parameter.data + (0.4 if kind.startswith(("loha", "lokr")) else 0.1) * torch.randn_like(parameter)
                model.float().save_pretrained(folder)
            inputs = inputs_of(load_file(next((ours / family).glob("*/expected.safetensors"))))
            expected = logits(adapted(family, folder), inputs)
            save_file({**inputs, "logits": expected.float().contiguous()}, folder / "expected.safetensors")


SMALL = {"vocab_size": 61, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4,
         "intermediate_size": 48, "max_position_embeddings": 512}
LLAMA_3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
           "original_max_position_embeddings": 64, "rope_theta": 500000.0}


def more_models():
    """Models of position encodings for which the repository has no checkpoint: name, model, targets, task."""
    t = transformers
    grouped = {**SMALL, "num_key_value_heads": 2}
    linear = {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}
    text = [
        ("llama-3", t.LlamaConfig(**grouped, rope_parameters=LLAMA_3), ["q_proj", "v_proj"]),
        ("llama-3-all-linear", t.LlamaConfig(**grouped, rope_parameters=LLAMA_3), "all-linear"),
        ("llama-linear", t.LlamaConfig(**SMALL, rope_parameters=linear), ["q_proj"]),
    ]
    return [(name, t.LlamaForCausalLM(config), targets, "CAUSAL_LM") for name, config, targets in text]


def python_writes_more(work, begins):
    """Saves the models of `more_models` with random weights and a LoRA for each, with logits on texts of 200 tokens."""
    torch.manual_seed(4)
    for name, model, targets, task in more_models():
        if not name.startswith(begins):
            continue
        for parameter in model.parameters():
            parameter.data = parameter.data + 0.05 * torch.randn_like(parameter)
        model.eval().save_pretrained(work / name / "base")
        model = peft.get_peft_model(model, peft.LoraConfig(r=3, lora_alpha=5, target_modules=targets, task_type=task))
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = 0.1 * torch.randn_like(parameter)
        model.eval().save_pretrained(work / name / "lora")
        ids = torch.randint(3, 61, (2, 200))
        inputs = {"input_ids": ids.int(), "attention_mask": torch.ones_like(ids).int()}
        expected = logits(model.double(), inputs)
        save_file({**inputs, "logits": expected.float().contiguous()}, work / name / "lora" / "expected.safetensors")


def python_loads(family, kind, folder):
    """
    Loads an adapter of this library. Returns the error of its logits, and keys and shapes that differ from PEFT's; for (IA)3
    also modules that only one side chooses.
    """
    expected = load_file(folder / "expected.safetensors")
    model = adapted(family, folder)
    ours = {key: list(tensor.shape) for key, tensor in load_file(folder / "adapter_model.safetensors").items()}
    saved_again = folder.parent / f"{kind}-again"
    model.float().save_pretrained(saved_again)
    theirs = {key: list(tensor.shape) for key, tensor in load_file(saved_again / "adapter_model.safetensors").items()}
    model = model.to(torch.float64)
    # Of saved modules' biases PEFT keeps further copies, which it does not read, and of an adapted table what the base has.
    theirs = {key: shape for key, shape in theirs.items()
              if not any(part in key for part in (".original_module.", ".modules_to_save.", ".base_layer.weight"))}
    differing = {f"{key} {shape}" for key, shape in ours.items()} ^ {f"{key} {shape}" for key, shape in theirs.items()}
    if kind == "ia3" and has_ia3(model):
        plain = base(family)
        chosen = peft.get_peft_model(plain, config_of(plain, "ia3")).targeted_module_names
        differing |= set(model.targeted_module_names) ^ set(chosen)
    inputs = inputs_of(expected)
    return error(logits(model, inputs), expected["logits"], inputs), sorted(differing)


def npm(*arguments):
    subprocess.run(["npm", "run", "-s", *arguments], check=True, cwd=TESTS.parent, stdout=subprocess.DEVNULL)


parser = argparse.ArgumentParser()
parser.add_argument("work", type=pathlib.Path)
parser.add_argument("result", type=pathlib.Path, nargs="?")
parser.add_argument("--only", nargs="+")
parser.add_argument("--kinds", nargs="+")
options = parser.parse_args()
transformers.utils.logging.disable_progress_bar()
work = options.work.resolve()
shutil.rmtree(work, ignore_errors=True)
bases, ours, theirs, back = work / "bases", work / "ours", work / "python", work / "back"
begins = tuple(options.only or [""])
write_bases(bases, begins)
npm("interop:write", "--", str(bases), "--out", str(ours), *([] if options.only else ["--all"]),
    *(["--kinds", ",".join(options.kinds)] if options.kinds else []))
python_writes(theirs)
if not options.kinds:
    python_writes_more(theirs, begins)
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
                expected = load_file(folder / "expected.safetensors")
                worst, keys = error(actual, expected["logits"], inputs_of(expected)), []
            case = {"direction": direction, "case": f"{family}/{folder.name}", "error": worst, "keysThatDiffer": keys}
            print(f"{direction}: {case['case']:22} {worst:.1e} {keys or ''}")
            cases.append(case)
            if worst > LIMIT or keys:
                failures.append(case)

if options.result:
    # Families and kinds that were left out keep their cases.
    is_part = options.only or options.kinds
    kept = json.loads(options.result.read_text())["cases"] if is_part and options.result.exists() else []
    names = {(case["direction"], case["case"]) for case in cases}
    every = cases + [case for case in kept if (case["direction"], case["case"]) not in names]
    result = {
        "versions": {"python": sys.version.split()[0], "torch": torch.__version__,
                     "transformers": transformers.__version__, "peft": peft.__version__},
        "limit": LIMIT,
        "worst": max(case["error"] for case in every),
        "cases": sorted(every, key=lambda case: (case["direction"], case["case"])),
    }
    options.result.write_text(json.dumps(result, indent=1) + "\n")
worst = max(case["error"] for case in cases)
print(f"{len(cases) - len(failures)} of {len(cases)} agree; worst {worst:.1e}")
sys.exit(1 if failures else 0)
