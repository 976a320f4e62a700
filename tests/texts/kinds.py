"""A small tokenizer of each kind that today's models have, trained by the package `tokenizers` on a few sentences."""

from __future__ import annotations

import json
import struct
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

from texts.samples import LANGUAGES, PARTS

GPT4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
QWEN = GPT4.replace("{1,3}", "")
GPT4O = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CLIP = r"'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"

SPECIAL = ["<s>", "</s>", "<unk>", "<|endoftext|>", "[PAD]"]
MARK = "\u2581"


def _trained(tokenizer: Tokenizer, size: int = 420, **more: Any) -> Tokenizer:
    kind = {"BPE": trainers.BpeTrainer, "WordPiece": trainers.WordPieceTrainer, "Unigram": trainers.UnigramTrainer,
            "WordLevel": trainers.WordLevelTrainer}[type(tokenizer.model).__name__]  # fmt: skip
    tokenizer.train_from_iterator(
        [*LANGUAGES, *LANGUAGES[:2], " ".join(PARTS)],
        kind(vocab_size=size, special_tokens=more.pop("special", SPECIAL), show_progress=False, **more),
    )
    return tokenizer


def _byte_level(pre: Any, **more: Any) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre
    tokenizer.decoder = decoders.ByteLevel()
    return _trained(tokenizer, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **more)


def _split(pattern: str) -> Any:
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(pattern), "isolated"), byte_level])


def gpt2() -> Tokenizer:
    return _byte_level(pre_tokenizers.ByteLevel(add_prefix_space=False))


def roberta() -> Tokenizer:
    tokenizer = _byte_level(pre_tokenizers.ByteLevel(add_prefix_space=True))
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 1), ("<s>", 0))
    return tokenizer


def llama3() -> Tokenizer:
    tokenizer = _byte_level(_split(GPT4))
    told = json.loads(tokenizer.to_str())
    told["model"]["ignore_merges"] = True
    told["model"]["vocab"]["Ġgeschr"] = len(told["model"]["vocab"])  # no merges lead to it
    tokenizer = Tokenizer.from_str(json.dumps(told))
    template = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    tokenizer.post_processor = processors.Sequence([processors.ByteLevel(trim_offsets=True), template])
    return tokenizer


def qwen() -> Tokenizer:
    tokenizer = _byte_level(_split(QWEN))
    tokenizer.normalizer = normalizers.NFC()
    return tokenizer


def gpt4o() -> Tokenizer:
    return _byte_level(_split(GPT4O))


def falcon() -> Tokenizer:
    """Punctuation and digits apart; cut and padded on the left."""
    pre = pre_tokenizers.Sequence([
        pre_tokenizers.Punctuation("contiguous"), pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    ])  # fmt: skip
    tokenizer = _byte_level(pre)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    tokenizer.enable_truncation(24, direction="left")
    tokenizer.enable_padding(direction="left", pad_id=4, pad_token="[PAD]", length=8, pad_to_multiple_of=8)
    return tokenizer


def llama2() -> Tokenizer:
    """As SentencePiece's BPE: spaces are marks, and characters that are not in the vocabulary bytes."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(MARK), normalizers.Replace(" ", MARK)])
    tokenizer.decoder = decoders.Sequence([
        decoders.Replace(MARK, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)
    ])  # fmt: skip
    tokens = [*SPECIAL, *(f"<0x{b:02X}>" for b in range(256))]
    tokenizer = _trained(tokenizer, 480, special=tokens, max_token_length=8, limit_alphabet=120)
    return Tokenizer.from_str(_without_added(tokenizer, lambda token: token["content"].startswith("<0x")))


def gemma() -> Tokenizer:
    tokenizer = llama2()
    tokenizer.normalizer = normalizers.Replace(" ", MARK)
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace(MARK, " "), decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer


def _without_added(tokenizer: Tokenizer, unwanted: Callable[[Mapping[str, Any]], bool]) -> str:
    told = json.loads(tokenizer.to_str())
    told["added_tokens"] = [token for token in told["added_tokens"] if not unwanted(token)]
    return json.dumps(told)


def bert() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]", max_input_chars_per_word=20))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    _trained(tokenizer, special=special)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS]:0 $A:0 [SEP]:0", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer.enable_truncation(32)
    tokenizer.enable_padding(pad_id=0, pad_token="[PAD]", length=32)
    return tokenizer


def bert_cased() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False, handle_chinese_chars=False, strip_accents=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    _trained(tokenizer, special=["[UNK]", "[CLS]", "[SEP]"])
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    return tokenizer


def t5() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Precompiled(charsmap())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    tokenizer.decoder = decoders.Metaspace()
    _trained(tokenizer, 700, unk_token="<unk>")
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return tokenizer


def xlm_roberta() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.Nmt(), normalizers.Precompiled(charsmap()), normalizers.Replace(Regex(" {2,}"), " ")
    ])  # fmt: skip
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Metaspace()
    _trained(tokenizer, 700, unk_token="<unk>")
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True)])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
    )
    return tokenizer


def albert() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.Replace("``", '"'), normalizers.Replace("''", '"'), normalizers.NFKD(), normalizers.StripAccents(),
        normalizers.Lowercase(), normalizers.Strip(),
    ])  # fmt: skip
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    tokenizer.decoder = decoders.Metaspace()
    return _trained(tokenizer, 700, unk_token="<unk>")


def unigram_bytes() -> Tokenizer:
    """Unigram with byte tokens, and NFKC."""
    told = json.loads(albert().to_str())
    told["model"]["vocab"] += [[f"<0x{b:02X}>", -20.0] for b in range(256)]
    told["model"]["byte_fallback"] = True
    tokenizer = Tokenizer.from_str(json.dumps(told))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    return tokenizer


def clip() -> Tokenizer:
    """The last symbol of a word is another than the same characters within it."""
    tokenizer = Tokenizer(models.BPE(unk_token="<|endoftext|>", end_of_word_suffix="</w>"))
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()
    ])  # fmt: skip
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(CLIP), "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)
    ])  # fmt: skip
    tokenizer.decoder = decoders.ByteLevel()
    return _trained(tokenizer, end_of_word_suffix="</w>", initial_alphabet=pre_tokenizers.ByteLevel.alphabet())


def subwords() -> Tokenizer:
    """BPE with a prefix within words, and unknown characters one by one."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", continuing_subword_prefix="##"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Strip()])
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.CharDelimiterSplit(" "), pre_tokenizers.Digits()])
    tokenizer.decoder = decoders.WordPiece()
    return _trained(tokenizer, continuing_subword_prefix="##", limit_alphabet=120)


def words() -> Tokenizer:
    """Whole words, which the decoder puts apart."""
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([
        normalizers.NFD(), normalizers.StripAccents(), normalizers.Lowercase()
    ])  # fmt: skip
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return _trained(tokenizer)


def added() -> Tokenizer:
    """Added tokens with every flag, and pieces cut in every way."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r"\d+"), "merged_with_next"), pre_tokenizers.Split("e", "merged_with_previous"),
        pre_tokenizers.Split(Regex(r"[,.!?]"), "contiguous"), pre_tokenizers.Split(" ", "merged_with_next"),
    ])  # fmt: skip
    tokenizer.decoder = decoders.Fuse()
    _trained(tokenizer)
    tokenizer.add_tokens([
        AddedToken("LOWER", normalized=True), AddedToken("Xtok", single_word=True, normalized=False),
        AddedToken("[ADDED]", lstrip=True, rstrip=True, normalized=False), AddedToken("don't", normalized=True),
        AddedToken("don", normalized=True, single_word=True), AddedToken("日本", normalized=False, rstrip=True),
    ])  # fmt: skip
    return tokenizer


KINDS: dict[str, Callable[[], Tokenizer]] = {
    f.__name__: f
    for f in (gpt2, roberta, llama3, qwen, gpt4o, falcon, llama2, gemma, bert, bert_cased, t5, xlm_roberta, albert,
              unigram_bytes, clip, subwords, words, added)
}  # fmt: skip


def charsmap() -> bytes:
    """A map as SentencePiece's nmt_nfkc, for some of what NFKC changes."""
    codes = (*range(0xA0, 0x180), *range(0x2000, 0x2130), *range(0x3380, 0x33A0), *range(0xFF01, 0xFF5F))
    changed = {chr(c): unicodedata.normalize("NFKC", chr(c)) for c in codes}
    pairs = {key: text for key, text in changed.items() if key != text and len(key.encode()) < 6}
    pairs |= {"\t": " ", "\n": " ", "\r": " ", "\u200b": " ", "e\u0301": "é", "\x07": ""}
    texts, at = bytearray(), {}
    for key, text in sorted(pairs.items(), key=lambda pair: pair[0].encode()):
        at[key.encode()] = len(texts)
        texts += text.encode() + b"\0"
    units = double_array(at)
    return struct.pack("<I", 4 * len(units)) + struct.pack(f"<{len(units)}I", *units) + bytes(texts)


def double_array(values: Mapping[bytes, int]) -> list[int]:
    """A trie as darts-clone has it: the unit of a child is at the parent's place, xor its offset, xor the label."""
    units: dict[int, int] = {0: 0}

    def offset_for(place: int, labels: Sequence[int]) -> int:
        offset = 1
        while any((place ^ offset ^ label) in units for label in labels):
            offset += 1
        return offset

    todo: list[tuple[int, int, list[bytes]]] = [(0, 0, sorted(values))]
    while todo:
        place, depth, keys = todo.pop()
        children: dict[int, list[bytes]] = {}
        for key in keys:
            children.setdefault(key[depth] if depth < len(key) else 0, []).append(key)
        offset = offset_for(place, list(children))
        assert offset < 1 << 21
        units[place] |= offset << 10 | (0x100 if 0 in children else 0)
        for label, own in children.items():
            child = place ^ offset ^ label
            units[child] = values[own[0]] | 1 << 31 if label == 0 else label
            if label:
                todo.append((child, depth + 1, own))
    return [units.get(k, 0) for k in range((max(units) | 0xFF) + 1)]  # readers look within blocks of 256
