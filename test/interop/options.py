"""
Adapters of PEFT with options that decide which modules are adapted, saved or shared, and those that put something before each text:
`check.py` compares them in both directions, and this script writes some of them into test/interop-data, in a Python with torch, transformers, peft and safetensors.

Usage: python test/interop/options.py [KIND ...]
"""
import inspect
import json
import pathlib
import sys
import tempfile

import peft
import torch
import transformers
from safetensors.torch import save_file

DATA = pathlib.Path(__file__).resolve().parent.parent / "interop-data"
# What npm test keeps: families whose tables are tied (qwen2, gpt2) or not (llama), and heads of one and of two modules.
KEPT = {"qwen2": ["saved-table", "saved-both", "tied-table"],
        "gpt2": ["saved-table", "saved-head", "tied-head", "pissa", "pissa-as-lora"],
        "llama": ["lora-head", "kept-tables", "pissa-patterns", "olora-as-lora", "pissa-dora"],
        "bert": ["bias-all", "excluded", "olora"], "roberta": ["bias-all", "overlap", "excluded"]}
KEPT_PROMPTS = {"bert": ["prefix-tuning"], "roberta": ["prefix-projection"], "gpt2": ["prefix-tuning", "p-tuning-lstm"],
                "llama": ["prefix-tuning"], "qwen2": ["prefix-projection", "p-tuning"], "t5": ["prompt", "p-tuning"],
                "bart": ["p-tuning-lstm"]}
# PEFT's name of the task, by the ending of the name of the model's class. PEFT has no task for images.
TASKS = {"ForSequenceClassification": "SEQ_CLS", "ForTokenClassification": "TOKEN_CLS", "LMHeadModel": "CAUSAL_LM",
         "ForQuestionAnswering": "QUESTION_ANS", "ForCausalLM": "CAUSAL_LM", "ForConditionalGeneration": "SEQ_2_SEQ_LM",
         "ForImageClassification": None}
# PEFT's class for encoder-decoders keeps a method of transformers by a name that version 5 does not have, and only puts it back.
if not hasattr(transformers.GenerationMixin, "_prepare_encoder_decoder_kwargs_for_generation"):
    transformers.GenerationMixin._prepare_encoder_decoder_kwargs_for_generation = None
PREFIXES = ["prefix-tuning", "prefix-projection"]
PROMPTS = ["prompt", "p-tuning", "p-tuning-lstm"]


def takes_prefix(model):
    """Whether PEFT can give a model keys and values before those of a text. Layers of an encoder-decoder get those of other layers."""
    if model.config.is_encoder_decoder:
        return False
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


def task_of(model):
    name = type(model).__name__
    return next(task for ending, task in TASKS.items() if name.endswith(ending))


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
        kinds = {}
    kinds["pissa"] = {"init_lora_weights": "pissa"}
    patterns = {"rank_pattern": {targets[-1]: 1}, "alpha_pattern": {targets[0]: 5}}
    kinds["pissa-patterns"] = {"init_lora_weights": "pissa", "use_rslora": True, **patterns}
    kinds["pissa-dora"] = {"init_lora_weights": "pissa", "use_dora": True}
    # PEFT's OLoRA does not fit weights that are stored [in, out], and its conversion leaves saved modules out.
    is_turned = config.model_type == "gpt2"
    if not is_turned:
        kinds["olora"] = {"init_lora_weights": "olora"}
    if type(model).__name__.endswith(("ForCausalLM", "LMHeadModel")):
        kinds["pissa-as-lora"] = {"init_lora_weights": "pissa", **patterns}
        if not is_turned:
            kinds["olora-as-lora"] = {"init_lora_weights": "olora", "use_rslora": True}
    return {kind: {**lora, **options} for kind, options in kinds.items()}


def adapted(model, kind, options, task):
    """The model with a random adapter, with random values for what is saved, and for kept tables."""
    is_lora = kind not in [*PREFIXES, *PROMPTS]
    if options and "init_lora_weights" in options:
        model = model.float()  # PEFT decomposes no float64.
    model = peft.get_peft_model(model, peft.LoraConfig(task_type=task, **options) if is_lora else prompt_config(model, kind, task))
    if kind.endswith("-as-lora"):
        model.initial = tempfile.mkdtemp()
        config, init = model.peft_config["default"], options["init_lora_weights"]
        config.init_lora_weights = True
        model.save_pretrained(f"{model.initial}/initial")
        config.init_lora_weights = init
    tables = {id(p) for m in (model.get_input_embeddings(), model.get_output_embeddings()) if m for p in m.parameters()}
    for parameter in model.parameters():
        if parameter.requires_grad or (kind == "kept-tables" and id(parameter) in tables):
            parameter.data = parameter.data + 0.1 * torch.randn_like(parameter)
    return model


def save(model, kind, folder):
    initial = {}
    if kind.endswith("-as-lora"):
        initial["path_initial_model_for_weight_conversion"] = f"{model.initial}/initial"
    model.float().save_pretrained(folder, save_embedding_layers=True if kind == "kept-tables" else "auto", **initial)


if __name__ == "__main__":
    torch.manual_seed(7)
    transformers.utils.logging.disable_progress_bar()
    for family, kinds in [*KEPT.items(), *KEPT_PROMPTS.items()]:
        folder = DATA / family / "base"
        architecture = transformers.AutoConfig.from_pretrained(folder).architectures[0]
        load = getattr(transformers, architecture).from_pretrained
        for kind in kinds:
            if sys.argv[1:] and kind not in sys.argv[1:]:
                continue
            model = load(folder)
            task = task_of(model)
            targets = peft.utils.constants.TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING[model.config.model_type]
            out = DATA / family / kind
            save(adapted(model, kind, option_kinds(model, targets).get(kind), task), kind, out)
            (out / "README.md").unlink(missing_ok=True)
            config = json.loads((out / "adapter_config.json").read_text())
            config["base_model_name_or_path"] = "../base"
            (out / "adapter_config.json").write_text(json.dumps(config, indent=1, sort_keys=True))
            loaded = peft.PeftModel.from_pretrained(load(folder), out).to(torch.float64).eval()
            ids = torch.randint(3, 80, (2, 7))
            inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
            if model.config.is_encoder_decoder:
                inputs["decoder_input_ids"] = torch.randint(3, 80, (2, 5))
                inputs["decoder_input_ids"][:, 0] = model.config.decoder_start_token_id
            with torch.no_grad():
                logits = loaded(**inputs)["logits"]
            ints = {name: tensor.int() for name, tensor in inputs.items()}
            save_file({**ints, "logits": logits.float().contiguous()}, out / "expected.safetensors")
            print("wrote", family, kind)
