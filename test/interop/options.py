"""
Adapters of PEFT with options that decide which modules are adapted, saved or shared, and those that put something before each text:
`check.py` compares them in both directions, and this script writes some of them into test/interop-data, in a Python with torch, transformers, peft and safetensors.

Usage: python test/interop/options.py
"""
import inspect
import json
import pathlib

import peft
import torch
import transformers
from safetensors.torch import save_file

DATA = pathlib.Path(__file__).resolve().parent.parent / "interop-data"
# What npm test keeps: families whose tables are tied (qwen2, gpt2) or not (llama), and heads of one and of two modules.
KEPT = {"qwen2": ["saved-table", "saved-both", "tied-table"], "gpt2": ["saved-table", "saved-head", "tied-head"],
        "llama": ["lora-head", "kept-tables"], "bert": ["bias-all", "excluded"], "roberta": ["bias-all", "overlap", "excluded"]}
KEPT_PROMPTS = {"bert": ["prefix-tuning"], "roberta": ["prefix-projection"], "gpt2": ["prefix-tuning", "p-tuning-lstm"],
                "llama": ["prefix-tuning"], "qwen2": ["prefix-projection", "p-tuning"]}
PREFIXES = ["prefix-tuning", "prefix-projection"]
PROMPTS = ["prompt", "p-tuning", "p-tuning-lstm"]


def takes_prefix(model):
    """Whether PEFT can give a model keys and values before those of a text."""
    classes = [model, *(each for each in model.children() if isinstance(each, transformers.PreTrainedModel))]
    return any("past_key_values" in inspect.signature(each.forward).parameters for each in classes)


def prompt_config(model, kind, task):
    """The configuration of a kind of PREFIXES or PROMPTS."""
    if kind in PREFIXES:
        projection = {"prefix_projection": True, "encoder_hidden_size": 6} if kind == "prefix-projection" else {}
        return peft.PrefixTuningConfig(num_virtual_tokens=3, task_type=task, **projection)
    # PEFT does not find these in configurations that name them as DistilBERT's does, nor that embeddings are narrower than layers.
    sizes = {"token_dim": model.get_input_embeddings().weight.shape[1], "num_layers": model.config.num_hidden_layers,
             "num_attention_heads": model.config.num_attention_heads}
    if kind == "prompt":
        return peft.PromptTuningConfig(num_virtual_tokens=3, task_type=task, **sizes)
    encoder = {"encoder_reparameterization_type": "LSTM"} if kind == "p-tuning-lstm" else {}
    return peft.PromptEncoderConfig(num_virtual_tokens=3, encoder_hidden_size=6, task_type=task, **encoder, **sizes)


def last_part(model, module):
    return next(name for name, each in model.named_modules() if each is module).split(".")[-1]


def option_kinds(model, targets):
    """Options of LoraConfig by kind, for a model whose attention has the modules `targets`."""
    config = model.config
    lora = {"r": 2, "lora_alpha": 3, "target_modules": targets}
    if type(model).__name__.endswith(("ForCausalLM", "LMHeadModel")):
        table, head = (last_part(model, each) for each in (model.get_input_embeddings(), model.get_output_embeddings()))
        kinds = {"saved-table": {"modules_to_save": [table]}, "saved-head": {"modules_to_save": [head]},
                 "saved-both": {"modules_to_save": [table, head]}, "kept-tables": {}}
        if config.tie_word_embeddings:
            kinds["tied-table"] = {"modules_to_save": [table], "ensure_weight_tying": True}
            kinds["tied-head"] = {"modules_to_save": [head], "ensure_weight_tying": True}
        else:
            kinds["lora-head"] = {"target_modules": [*targets, head]}
    elif type(model).__name__.endswith("ForSequenceClassification") and hasattr(model, "classifier"):
        linear = {name.split(".")[-1] for name, each in model.named_modules() if isinstance(each, torch.nn.Linear)}
        kinds = {"bias-all": {"bias": "all"},
                 # Ends of paths that the head's modules have as well.
                 "overlap": {"target_modules": sorted(linear - {"classifier", "pre_classifier", "score"})},
                 "excluded": {"target_modules": "all-linear", "exclude_modules": r".*\.1\..*|.*pooler.*|pre_classifier"}}
    else:
        return {}
    return {kind: {**lora, **options} for kind, options in kinds.items()}


def adapted(model, kind, options, task):
    """The model with a random adapter, with random values for what is saved, and for kept tables."""
    is_lora = kind not in [*PREFIXES, *PROMPTS]
    model = peft.get_peft_model(model, peft.LoraConfig(task_type=task, **options) if is_lora else prompt_config(model, kind, task))
    tables = {id(p) for m in (model.get_input_embeddings(), model.get_output_embeddings()) if m for p in m.parameters()}
    for parameter in model.parameters():
        if parameter.requires_grad or (kind == "kept-tables" and id(parameter) in tables):
            parameter.data = parameter.data + 0.1 * torch.randn_like(parameter)
    return model


def save(model, kind, folder):
    model.float().save_pretrained(folder, save_embedding_layers=True if kind == "kept-tables" else "auto")


if __name__ == "__main__":
    torch.manual_seed(7)
    transformers.utils.logging.disable_progress_bar()
    for family, kinds in [*KEPT.items(), *KEPT_PROMPTS.items()]:
        folder = DATA / family / "base"
        architecture = transformers.AutoConfig.from_pretrained(folder).architectures[0]
        load = getattr(transformers, architecture).from_pretrained
        task = "SEQ_CLS" if architecture.endswith("Classification") else "CAUSAL_LM"
        for kind in kinds:
            model = load(folder)
            targets = peft.utils.constants.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING[model.config.model_type]
            out = DATA / family / kind
            save(adapted(model, kind, option_kinds(model, targets).get(kind), task), kind, out)
            (out / "README.md").unlink(missing_ok=True)
            config = json.loads((out / "adapter_config.json").read_text())
            config["base_model_name_or_path"] = "../base"
            (out / "adapter_config.json").write_text(json.dumps(config, indent=1, sort_keys=True))
            loaded = peft.PeftModel.from_pretrained(load(folder, dtype=torch.float64), out).to(torch.float64).eval()
            ids = torch.randint(3, 80, (2, 7))
            inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            with torch.no_grad():
                logits = loaded(**inputs)["logits"]
            ints = {name: tensor.int() for name, tensor in inputs.items()}
            save_file({**ints, "logits": logits.float().contiguous()}, out / "expected.safetensors")
            print("wrote", family, kind)
