"""Tokenizes texts with transformers, with the offsets of tokens, as expected by test/pure/data-offsets.test.ts.

Usage: python test/interop/offsets.py > test/interop/offsets.json
"""

import json
import sys
from pathlib import Path

import tokenizers
import transformers
from transformers import PreTrainedTokenizerFast

DATA = Path(__file__).parent.parent / "interop-data" / "tokenizers"
TEXTS = [
    "the film is not boring",
    "don't  say   it's never-ending; I won't.",
    " leading space and trailing space  ",
    "line one\nline two\n\n\ttabbed",
    "Caf\u00e9 na\u00efve \u00c5ngstr\u00f6m, cafe\u0301",
    "\u6771\u4eac is \u6771 and \u4eac",
    "smile \U0001f600 and \U0001f44d\U0001f3fd!",
    "a\u00a0non-breaking space",
    "\u201ccurly\u201d \u2018quotes\u2019 \u2014 dash",
    "$5 + 3 = 8 (approx.) #tag @you a_b ^x` ~y |z <w>",
    "UPPER Case \u0130stanbul \u00df",
    "zero\u200bwidth and soft\u00adhyphen",
]


def main():
    cases = []
    for name in ["bert", "gpt2", "roberta"]:
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(DATA / name / "tokenizer.json"))
        for text in TEXTS:
            encoding = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
            # Python counts code points, JavaScript UTF-16 code units.
            unit = lambda i: len(text[:i].encode("utf-16-le")) // 2
            spans = [[unit(a), unit(b)] for a, b in encoding["offset_mapping"]]
            cases.append({"tokenizer": name, "text": text, "ids": encoding["input_ids"], "spans": spans})
    question, context = "what is never boring", "the film is never boring, and the plot is not dull " * 4
    windows = []
    for name in ["bert", "gpt2", "roberta"]:
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(DATA / name / "tokenizer.json"), pad_token="[PAD]")
        # tokenizers 0.23 truncates each text to max_length before it makes windows, so a longer context would lose its end.
        words = context.split()
        while len(tokenizer(" ".join(words), add_special_tokens=False)["input_ids"]) > 40:
            words.pop()
        encoding = tokenizer(question, " ".join(words), truncation="only_second", max_length=40, stride=10, return_overflowing_tokens=True)
        windows.append({"tokenizer": name, "context": " ".join(words), "ids": encoding["input_ids"]})
    versions = {module.__name__: module.__version__ for module in [tokenizers, transformers]}
    pair = {"question": question, "maxLength": 40, "overlap": 10, "windows": windows}
    json.dump({"versions": versions, "cases": cases, "pair": pair}, sys.stdout)
    print()


if __name__ == "__main__":
    main()
