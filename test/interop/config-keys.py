"""Writes the keys of config.json that transformers has for each family, with their defaults, to config-keys.json.

Usage: python test/interop/config-keys.py > test/interop/config-keys.json

Needs transformers. The keys are those of the configuration's class, its other names of them, and what the text of the
modelling code reads of a configuration besides. test/pure/config-keys.test.ts asks for each whether it is used or refused.
"""

import inspect
import json
import re

import transformers
from transformers import AutoConfig

FAMILIES = """bert roberta xlm-roberta electra distilbert albert mpnet modernbert deberta-v2 gpt2 llama qwen2 qwen3 mistral phi3
gemma2 gemma3_text olmo2 smollm3 gpt_neox t5 bart vit deit dinov2 swin swinv2""".split()
READ = re.compile(r"\bconfig\.([a-z]\w*)\b(?!\()|getattr\((?:self\.)?config, \"(\w+)\"")


def keys(family):
    config = AutoConfig.for_model(family)
    # to_dict leaves out keys without a default, and adds the name of the family and of the version.
    found = {key: value for key, value in {**vars(config), **config.to_dict()}.items() if not key.startswith(("_", "base_model_"))}
    package = type(config).__module__.replace("configuration_", "modeling_")
    code = inspect.getsource(__import__(package, fromlist=["_"]))
    read = {name for match in READ.findall(code) for name in match if name and not name.startswith("_")}
    for key in sorted(read):
        found.setdefault(key, getattr(config, key, None))
    found |= dict.fromkeys(config.attribute_map)
    found = {key: value if isinstance(value, (int, float, str, list, dict, type(None))) else None for key, value in found.items()}
    return dict(sorted((key, value) for key, value in found.items() if key not in ("model_type", "transformers_version")))


# One line for each family.
lines = [f"  {json.dumps(family)}: {json.dumps(keys(family))}" for family in FAMILIES]
print("{\n" + f'  "madeWith": "transformers {transformers.__version__}",\n' + ",\n".join(lines) + "\n}")
