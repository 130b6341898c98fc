"""Published checkpoints give the reference's token ids and outputs, with their own generation settings."""

import dataclasses

import pytest

import flaxformer_lite
from flaxformer_lite.config import defaults, parsing
from flaxformer_lite.data.vocabularies import saved as saved_vocabularies
from flaxformer_lite.interop import importing
from flaxformer_lite.interop.families.family_table import FAMILIES
from flaxformer_lite.interop.generation_config import GENERATION_KEYS, read_generation_config, write_generation_config
from flaxformer_lite.interop.pretrained_dir import PretrainedDir
from flaxformer_lite.interop.special_tokens import read_special_tokens
from flaxformer_lite.interop.tokenizer_import import LanguagePair, read_vocabularies
from tests.interop.hub_checkpoints import CHECKPOINTS, publish, publish_files
from tests.interop.tokenizer_files import TEXTS
from tests.marks import slow_except
from tests.transformers_reference import torch, transformers

pytestmark = pytest.mark.filterwarnings("ignore")  # raised by other libraries

_QUICK = ("facebook/bart-base", "google/t5gemma-2b-2b-prefixlm-it")
_LINES = ("the cat", "dog 7", "jumps")
_LIMIT = 12  # where a checkpoint has none
_AWKWARD = (
    *("a  b", " leading", "a\tb", "日本 語", "🎉🎉", "e\u0301 cafe\u0301", "<extra_id_0> <extra_id_1>", "x <mask> y"),
    *("hello >>fra<< x", ">>xyz<< Hello", "the</s>cat", "it 's . good , n't ?", "<s>x", "trailing ", "\t", "a <pad> b"),
)
# Where transformers 5 differs from SentencePiece, with which these models were trained.
_LOSES_NORMALIZATION = ("facebook/mbart-large-cc25", "facebook/mbart-large-en-ro")
_KEEPS_TRAILING_SPACE = ("mbart-large-50", "pegasus", "nllb")


@pytest.mark.parametrize("name", slow_except(_QUICK, CHECKPOINTS))
def test_outputs_equal_those_of_generate(tmp_path, name):
    ids, (source_language, target_language) = publish(tmp_path / "source", name), CHECKPOINTS[name].languages
    pretrained = importing.open_pretrained(
        tmp_path / "source", tmp_path / "work", LanguagePair(source_language, target_language)
    )
    (tmp_path / "work").mkdir()
    importing.write_workdir(pretrained, importing.read_params(pretrained), tmp_path / "work")

    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "source", dtype=torch.float32).eval()
    if model.config.model_type == "umt5":  # transformers 5 scales logits although config.json disables it
        model.config.tie_word_embeddings = False
    tokenizer = _tokenizer(tmp_path / "source", name)
    predictor, arguments = flaxformer_lite.load(tmp_path / "work"), CHECKPOINTS[name].arguments(ids)
    decode = predictor.config.decode
    if decode.max_length_ratio:
        decode = dataclasses.replace(decode, max_length_ratio=0.0, max_length_offset=_LIMIT - 1)
        arguments["max_length"] = _LIMIT
    batch = tokenizer(list(_LINES), return_tensors="pt", padding=True)
    expected = model.generate(batch.input_ids, attention_mask=batch.attention_mask, **arguments)
    found = [row[0] for row in predictor.n_best(_LINES, decode)]
    pad = model.generation_config.pad_token_id or model.config.pad_token_id
    assert [[*row.ids, *[pad] * (expected.shape[1] - 1 - len(row.ids))] for row in found] == expected[:, 1:].tolist()
    assert len({round(row.score, 3) for row in found}) > 1, "the outputs must differ"
    if "umt5" not in name:  # its tokenizer.json decodes bytes as they are written
        texts = tokenizer.batch_decode(expected, skip_special_tokens=True)
        assert [row.text.strip() for row in found] == [text.strip() for text in texts]


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_ids_and_texts_equal_the_references(tmp_path, name):
    publish_files(tmp_path, name)
    folder = PretrainedDir(tmp_path)
    special = read_special_tokens(folder.config, folder.json("generation_config.json"))
    family = folder.config["model_type"]
    sizes = FAMILIES[family].vocab_sizes(folder.config)
    source, target = read_vocabularies(folder, family, special, sizes, LanguagePair(*CHECKPOINTS[name].languages))
    reference, saved = _tokenizer(tmp_path, name), saved_vocabularies.from_json(source.to_json())
    for text in (*TEXTS, *_AWKWARD):
        ids = source.encode(text)
        assert saved.encode(text) == ids
        if text == "x <mask> y" and (family == "bart" or "codet5" in name):
            assert "<mask>" in source.token(ids[1]) or source.token(ids[1]) == "<unk>"  # the model may lack it
            continue
        if name in _LOSES_NORMALIZATION and source.special.unknown in reference(text).input_ids:
            continue
        if any(part in name for part in _KEEPS_TRAILING_SPACE) and (text != text.rstrip() or "<pad>" in text):
            continue
        assert [*source.prefix_ids, *ids, *source.suffix_ids] == reference(text).input_ids, text
        if "umt5" not in name and "</s>" not in text and "<mask>" not in text:
            assert source.decode(ids).strip() == reference.decode(ids, skip_special_tokens=True).strip(), text
        assert saved.decode(ids) == source.decode(ids)

    generation = folder.json("generation_config.json") or folder.config
    read = read_generation_config(
        {key: generation[key] for key in GENERATION_KEYS if key in generation}, special, target
    )
    decode = dataclasses.asdict(parsing.from_dict(defaults.get_config().to_dict()).decode)
    written = write_generation_config(decode | read, special, target)
    assert read_generation_config(written, read_special_tokens({}, written), target) == read


def _tokenizer(folder, name):
    languages = dict(zip(("src_lang", "tgt_lang"), CHECKPOINTS[name].languages, strict=True))
    return transformers.AutoTokenizer.from_pretrained(folder, **{key: code for key, code in languages.items() if code})
