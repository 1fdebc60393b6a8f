"""Loads what was taken away from the studio in transformers and PEFT, and compares what it makes of the run's rows.

Usage: SAFETAPE_STUDIO_KEEP=WORK npm run test:studio && python test/interop/studio.py WORK [RESULT.json]

Needs torch, transformers, peft and safetensors. Each folder of WORK has a model, the adapter and the merged model as their zips had them, the
programs that repeat the run, and what the page and Node found: the page's loss on the rows to evaluate on, Node's logits of classifiers, and
the text that follows a prompt. Adapter and merged model must give the same, and the Python program must run to its end.
"""
import argparse
import json
import pathlib
import re
import subprocess
import sys

import peft
import torch
import transformers

LIMIT = 1e-4
transformers.utils.logging.disable_progress_bar()


def rows(folder):
    return [json.loads(line) for line in (folder / "repeat/dev.jsonl").read_text().splitlines()]


def auto_model(folder):
    """The class of transformers for the head that was trained."""
    program = (folder / "repeat/repeat.py").read_text()
    return getattr(transformers, re.search(r"AutoModelFor\w+", program)[0])


def padded(values, filler):
    length = max(len(value) for value in values)
    return torch.tensor([value + [filler] * (length - len(value)) for value in values])


def images(folder, config):
    """Images as the studio and ViT's defaults make numbers of their bytes."""
    data = bytearray((folder / "repeat/dev.bin").read_bytes())
    pixels = torch.frombuffer(data, dtype=torch.uint8).view(-1, config.num_channels, config.image_size, config.image_size)
    return (pixels / 255 - 0.5) / 0.5


def inputs_of(folder, config):
    examples = rows(folder)
    if (folder / "repeat/dev.bin").exists():
        return {"pixel_values": images(folder, config), "labels": torch.tensor([row["label"] for row in examples])}
    ids = [row["ids"] for row in examples]
    inputs = {"input_ids": padded(ids, config.pad_token_id or 0), "attention_mask": padded([[1] * len(row) for row in ids], 0)}
    if "typeIds" in examples[0]:
        inputs["token_type_ids"] = padded([row["typeIds"] for row in examples], 0)
    labels = [row["label"] for row in examples]
    return {**inputs, "labels": torch.tensor(labels) if isinstance(labels[0], int) else padded(labels, -100)}


def found(model, folder, expected):
    """The largest deviations of a model from what the page and Node found."""
    model.eval()
    with torch.no_grad():
        out = model(**inputs_of(folder, model.config))
    errors = {"loss": abs(out.loss.item() - expected["loss"])}
    if expected["logits"]:
        logits = torch.tensor(expected["logits"]).view(out.logits.shape)
        errors["logits"] = float((out.logits - logits).abs().max() / logits.abs().max())
    if "prompt" in expected:
        prompt = torch.tensor([expected["prompt"]])
        # Nothing ends a text before as many tokens as the page wrote.
        options = {"do_sample": False, "max_new_tokens": len(expected["continuation"]), "pad_token_id": 0}
        written = model.generate(input_ids=prompt, attention_mask=torch.ones_like(prompt), **options)
        errors["wrong tokens"] = sum(a != b for a, b in zip(written[0, prompt.shape[1] :].tolist(), expected["continuation"]))
    return errors


def check(folder):
    expected = json.loads((folder / "expected.json").read_text())
    auto = auto_model(folder)
    adapted = peft.PeftModel.from_pretrained(auto.from_pretrained(folder / "model"), folder / "adapter")
    merged = auto.from_pretrained(folder / "merged")
    results = {"adapter": found(adapted, folder, expected), "merged": found(merged, folder, expected)}
    program = [sys.executable, "repeat.py", str((folder / "model").resolve())]
    run = subprocess.run(program, cwd=folder / "repeat", capture_output=True, text=True)
    last = run.stdout.strip().splitlines()[-1:] or [run.stderr[-2000:]]
    passed = run.returncode == 0 and all(error <= LIMIT for errors in results.values() for error in errors.values())
    gpu = json.loads((folder / "adapter/run.json").read_text())["gpu"]
    return {"case": folder.name, "family": merged.config.model_type, "trained on": f"{gpu['vendor']} {gpu['architecture']}",
            "rows": len(rows(folder)), **results, "repeat.py": last[0], "passed": passed}


arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
arguments.add_argument("work", type=pathlib.Path)
arguments.add_argument("result", type=pathlib.Path, nargs="?")
options = arguments.parse_args()
results = [check(folder) for folder in sorted(options.work.iterdir()) if (folder / "expected.json").exists()]
for result in results:
    print(json.dumps(result))
commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
versions = {library.__name__: library.__version__ for library in (torch, transformers, peft)}
if options.result:
    options.result.write_text(json.dumps({"commit": commit, "limit": LIMIT, "versions": versions, "results": results}, indent=1) + "\n")
sys.exit(0 if results and all(result["passed"] for result in results) else 1)
