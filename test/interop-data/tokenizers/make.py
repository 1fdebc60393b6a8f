"""Writes small tokenizers and what Hugging Face's `tokenizers` (0.23.2) makes of some texts with them.

pip install tokenizers==0.23.2; python make.py
"""

import json
import pathlib

from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).parent
CORPUS = [
    "a film that is not merely good , but gripping and moving",
    "the plot isn't half as clever as it thinks it is",
    "an unforgettable , quietly hilarious story of two brothers",
    "hardly ever boring , never once believable",
    "the acting is wooden and the dialogue is worse",
] * 3
TEXTS = [
    ["the film is gripping", None],
    ["The Film ISN'T gripping!", None],
    ["caf\u00e9 na\u00efve \u4f60\u597d \U0001f600 zz", None],
    ["two  spaces\tand a tab\n", None],
    ["", None],
    ["[MASK] the <|endoftext|> end", None],
    ["a quietly moving story of two brothers", "hardly ever boring"],
    ["never", "the plot is not half as clever as it thinks it is and the dialogue is worse"],
]


def bert():
    t = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    t.normalizer = normalizers.BertNormalizer(lowercase=True)
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    t.train_from_iterator(CORPUS, trainers.WordPieceTrainer(vocab_size=160, special_tokens=special))
    t.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0", pair="[CLS]:0 $A:0 [SEP]:0 $B:1 [SEP]:1",
        special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    config = {"model_max_length": 48, "pad_token": "[PAD]", "cls_token": {"content": "[CLS]"},
              "clean_up_tokenization_spaces": False}
    return t, config


def gpt2():
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.decoder = decoders.ByteLevel()
    t.train_from_iterator(CORPUS, trainers.BpeTrainer(
        vocab_size=340, special_tokens=["<|endoftext|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    t.post_processor = processors.ByteLevel(trim_offsets=False)
    config = {"model_max_length": 1000000000000000019884624838656, "eos_token": "<|endoftext|>",
              "clean_up_tokenization_spaces": False}
    return t, config


def roberta():
    t, config = gpt2()
    t.add_special_tokens(["<s>", "</s>"])
    t.post_processor = processors.RobertaProcessing(("</s>", t.token_to_id("</s>")), ("<s>", t.token_to_id("<s>")))
    return t, config


for make in (bert, gpt2, roberta):
    folder = HERE / make.__name__
    folder.mkdir(exist_ok=True)
    tokenizer, config = make()
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    (folder / "tokenizer_config.json").write_text(json.dumps(config) + "\n")
    cases = []
    for limit in (None, 12, 7):
        if limit is None:
            tokenizer.no_truncation()
        else:
            tokenizer.enable_truncation(limit, strategy="longest_first")
        for text, pair in TEXTS:
            e = tokenizer.encode(text, pair)
            cases.append({"text": text, "pair": pair, "maxLength": limit, "ids": e.ids, "typeIds": e.type_ids,
                          "decoded": tokenizer.decode(e.ids)})
    (folder / "expected.json").write_text(json.dumps(cases) + "\n")
