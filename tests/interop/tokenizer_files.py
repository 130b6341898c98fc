"""Small tokenizers in published formats; each function trains one, writes it and returns its size and ids."""

import functools
import io
import json
from pathlib import Path

import sentencepiece

TEXTS = (
    "Hello world",
    "The quick brown fox jumps over the lazy dog.",
    "  two  blanks   here",
    "naïve café ﬁ ①",
    "日本語とかな",
    "🎉 ☃ e\u0301",
    "",
    "tab\tand\nline",
    "don't stop… — 1,234.56",
    "fill <extra_id_0> in <extra_id_1>.",
    "x</s>y",
    ">>fra<< Hello",
    "UPPER lower MiXed",
    "Ünïcödé ß",
)
_CORPUS = [text for text in TEXTS if "<" not in text] * 3 + [f"the cat sat on the mat and dog {i}" for i in range(99)]


@functools.cache
def pieces(**special: int | str) -> bytes:
    """A SentencePiece model."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(_CORPUS),
        model_writer=model,
        **{"vocab_size": 150, "hard_vocab_limit": False, "minloglevel": 2, "num_threads": 1, **special},
    )
    return model.getvalue()


def names(model: bytes) -> list[str]:
    """All pieces of a model."""
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    return [processor.id_to_piece(i) for i in range(processor.get_piece_size())]


def write(folder: Path, files: dict[str, bytes | dict]) -> None:
    """Writes bytes as they are and dictionaries as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())


def t5(folder: Path) -> dict[str, int]:
    """Pieces followed by sentinels; there are more ids than tokens."""
    model = pieces(pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    write(folder, {"spiece.model": model, "tokenizer_config.json": {"tokenizer_class": "T5Tokenizer"}})
    return {"vocab_size": len(names(model)) + 103, "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}


def byt5(folder: Path) -> dict[str, int]:
    """Bytes."""
    write(folder, {"tokenizer_config.json": {"tokenizer_class": "ByT5Tokenizer"}})
    return {"vocab_size": 384, "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}


def pegasus(folder: Path) -> dict[str, int]:
    """103 special tokens followed by pieces."""
    model = pieces(pad_id=0, eos_id=1, unk_id=2, bos_id=-1)
    write(folder, {"spiece.model": model, "tokenizer_config.json": {"tokenizer_class": "PegasusTokenizer"}})
    return {"vocab_size": len(names(model)) + 103, "pad_token_id": 0, "eos_token_id": 1, "decoder_start_token_id": 0}


_FAIRSEQ = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}


def mbart(folder: Path) -> dict[str, int]:
    """Pieces with fairseq's ids and 25 languages; the language ends a source and starts the decoder."""
    model = pieces(unk_id=0, bos_id=1, eos_id=2)
    write(folder, {"sentencepiece.bpe.model": model, "tokenizer_config.json": {"tokenizer_class": "MBartTokenizer"}})
    size = len(names(model))
    return {"vocab_size": size + 27, **_FAIRSEQ, "decoder_start_token_id": size + 20}


def mbart50(folder: Path) -> dict[str, int]:
    """Pieces with fairseq's ids and 52 languages; the language comes first."""
    model = pieces(unk_id=0, bos_id=1, eos_id=2)
    write(folder, {"sentencepiece.bpe.model": model, "tokenizer_config.json": {"tokenizer_class": "MBart50Tokenizer"}})
    return {"vocab_size": len(names(model)) + 54, **_FAIRSEQ, "decoder_start_token_id": 2}


def m2m100(folder: Path) -> dict[str, int]:
    """Pieces with a table of ids that lacks some of them, and 100 languages."""
    model = pieces(unk_id=0, bos_id=1, eos_id=2)
    table = {token: i for i, token in enumerate(["<s>", "<pad>", "</s>", "<unk>", *names(model)[3:-4]])}
    settings = {"tokenizer_class": "M2M100Tokenizer"}
    write(folder, {"sentencepiece.bpe.model": model, "vocab.json": table, "tokenizer_config.json": settings})
    return {"vocab_size": len(table) + 108, **_FAIRSEQ, "decoder_start_token_id": 2}


def nllb(folder: Path) -> dict[str, int]:
    """Pieces with fairseq's ids; languages and special tokens are listed in a file."""
    model = pieces(unk_id=0, bos_id=1, eos_id=2)
    special = dict(enumerate(["<s>", "<pad>", "</s>", "<unk>"]))
    special |= dict(enumerate(["eng_Latn", "fra_Latn", "zho_Hans", "<mask>"], start=len(names(model)) + 1))
    added = {str(i): {"content": token, "lstrip": token == "<mask>", "special": True} for i, token in special.items()}
    settings = {"tokenizer_class": "NllbTokenizer", "legacy_behaviour": False, "added_tokens_decoder": added}
    write(folder, {"sentencepiece.bpe.model": model, "tokenizer_config.json": settings})
    return {"vocab_size": len(names(model)) + 7, **_FAIRSEQ, "decoder_start_token_id": 2}


def marian(folder: Path) -> dict[str, int]:
    """Two SentencePiece models and one table of ids."""
    models = [pieces(unk_id=0, bos_id=-1, eos_id=1, character_coverage=share) for share in (1.0, 0.98)]
    tokens = ["</s>", "<unk>", ">>fra<<", *(name for model in models for name in names(model)[2:-3]), "<pad>"]
    table = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    files = {"source.spm": models[0], "target.spm": models[1], "vocab.json": table}
    write(folder, files | {"tokenizer_config.json": {"tokenizer_class": "MarianTokenizer"}})
    pad = table["<pad>"]
    ids = {"pad_token_id": pad, "bos_token_id": 0, "eos_token_id": 0, "decoder_start_token_id": pad}
    return {"vocab_size": len(table), **ids}


def bart(folder: Path) -> dict[str, int]:
    """Byte-level BPE in tokenizer.json."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        _CORPUS,
        trainers.BpeTrainer(vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    write(folder, {"tokenizer.json": tokenizer.to_str().encode(), "tokenizer_config.json": _fast("<s>", "</s>")})
    ids = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "decoder_start_token_id": 2}
    return {"vocab_size": tokenizer.get_vocab_size(), **ids}


def gemma(folder: Path) -> dict[str, int]:
    """BPE with byte fallback in tokenizer.json; texts start with a begin token."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    special = ["<pad>", "<eos>", "<bos>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer.train_from_iterator(
        _CORPUS, trainers.BpeTrainer(vocab_size=500, special_tokens=special, show_progress=False)
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<bos> $A", pair="<bos> $A <bos> $B", special_tokens=[("<bos>", 2)]
    )
    write(folder, {"tokenizer.json": tokenizer.to_str().encode(), "tokenizer_config.json": _fast("<bos>", "<eos>")})
    ids = {"pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 1, "decoder_start_token_id": 2}
    return {"vocab_size": tokenizer.get_vocab_size(), **ids}


def _fast(begin: str, end: str) -> dict[str, str]:
    tokens = {"bos_token": begin, "eos_token": end, "pad_token": "<pad>", "unk_token": "<unk>"}
    return {"tokenizer_class": "PreTrainedTokenizerFast"} | tokens
