"""Published tokenizers give the ids that the reference gives, and a saved vocabulary those of the one that was read."""

import json
import unicodedata
import warnings

import pytest

from flaxformer_lite.data.vocabularies import vocabulary
from flaxformer_lite.errors import InputError
from flaxformer_lite.interop.folder import Folder
from flaxformer_lite.interop.roles import read_roles
from flaxformer_lite.interop.vocabularies import Languages, read_vocabularies
from tests.interop import tokenizer_files as files

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("tokenizers", reason="reads tokenizer.json: pip install -e '.[tokenizers]'")

# name: (who writes it, model_type, languages, the reference's class)
_KINDS = {
    "t5": (files.t5, "t5", ("", ""), "T5Tokenizer"),
    "byt5": (files.byt5, "t5", ("", ""), "ByT5Tokenizer"),
    "pegasus": (files.pegasus, "pegasus", ("", ""), "PegasusTokenizer"),
    "mbart": (files.mbart, "mbart", ("en_XX", "ro_RO"), "MBartTokenizer"),
    "mbart50": (files.mbart50, "mbart", ("en_XX", "sl_SI"), "MBart50Tokenizer"),
    "m2m100": (files.m2m100, "m2m_100", ("en", "ro"), "M2M100Tokenizer"),
    "marian": (files.marian, "marian", ("", ""), "MarianTokenizer"),
    "bart": (files.bart, "bart", ("", ""), "PreTrainedTokenizerFast"),
    "gemma": (files.gemma, "t5gemma", ("", ""), "PreTrainedTokenizerFast"),
}


def _read(folder, kind, languages=None):
    write, family, spoken, _ = _KINDS[kind]
    files.write(folder, {"config.json": {"model_type": family} | write(folder)})
    found = Folder(folder)
    size = found.config["vocab_size"]
    asked = Languages(*(spoken if languages is None else languages))
    return read_vocabularies(found, family, read_roles(found.config, {}), (size, size), asked)


@pytest.mark.filterwarnings("ignore")  # those of other libraries are not ours to mend
@pytest.mark.parametrize("kind", _KINDS)
def test_ids_are_those_of_the_reference(tmp_path, kind):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformers = pytest.importorskip("transformers", reason="compares with transformers: pip install -e '.[hf]'")
    source, target = _read(tmp_path, kind)
    languages = dict(zip(("src_lang", "tgt_lang"), _KINDS[kind][2], strict=True)) if _KINDS[kind][2][0] else {}
    reference = getattr(transformers, _KINDS[kind][3]).from_pretrained(tmp_path, **languages)
    assert source.encode("Hello world") != source.encode("the cat"), "or this compares nothing"
    for text in files.TEXTS:
        if kind == "mbart" and unicodedata.normalize("NFKC", text) != text:
            continue  # transformers 5 reads all of a SentencePiece model of this family but how it normalises text
        assert [*source.opening, *source.encode(text), *source.closing] == reference(text).input_ids, text
        ids = reference(text_target=text).input_ids
        said = target.encode(text)
        assert said in (ids, ids[1:], ids[:-1], ids[1:-1], ids[:-2]), text  # languages, begin and end around it
        opened = [*target.opening, *said, target.special.end]
        if kind not in ("mbart", "gemma"):  # whose targets close with their language, and open with a begin token
            assert opened == ids, text
        if "</s>" not in text and kind != "m2m100":  # which decodes its languages as text
            spoken = reference.decode(opened, skip_special_tokens=True)
            assert target.decode([*opened, target.special.pad, *said]).split() == spoken.split(), text


@pytest.mark.parametrize("kind", _KINDS)
def test_a_saved_vocabulary_is_the_same(tmp_path, kind):
    for read in _read(tmp_path, kind):
        saved = vocabulary.from_json(json.loads(json.dumps(read.to_json())))
        assert (saved.special, saved.opening, saved.closing) == (read.special, read.opening, read.closing)
        assert saved.size == read.size
        for text in files.TEXTS:
            assert saved.encode(text) == read.encode(text)
            assert saved.decode(saved.encode(text)) == read.decode(read.encode(text))
            assert max(saved.encode(text), default=0) < saved.size
        assert [saved.token(i) for i in range(saved.size)] == [read.token(i) for i in range(read.size)]


def test_languages_are_where_each_family_has_them(tmp_path):
    source, target = _read(tmp_path / "a", "mbart")
    assert (source.opening, target.opening, target.closing) == ((), (), (2,))
    assert [source.token(i) for i in source.closing] == ["</s>", "en_XX"]
    assert target.token(target.special.begin) == "ro_RO"

    source, target = _read(tmp_path / "b", "m2m100")
    assert [source.token(*source.opening), target.token(*target.opening)] == ["__en__", "__ro__"]
    assert (source.closing, target.special.begin) == ((2,), 2)


def test_a_language_must_be_known_and_asked_for(tmp_path):
    with pytest.raises(InputError, match=r"--target_lang=xx: .* none of the model's 52 languages; they are ar_AR, "):
        _read(tmp_path, "mbart50", ("en_XX", "xx"))
    assert "he" in files.names(files.pieces(unk_id=0, bos_id=1, eos_id=2)), "which is no language, but a token"
    with pytest.raises(InputError, match=r"--source_lang=he: this is none of .*; the nearest are he_IL$"):
        _read(tmp_path, "mbart50", ("he", "en_XX"))
    with pytest.raises(InputError, match="--source_lang=: this model must be told the language of its sources"):
        _read(tmp_path, "mbart50", ("", "en_XX"))
    with pytest.raises(InputError, match="--source_lang=en --target_lang=: this model's tokenizer has no languages"):
        _read(tmp_path, "t5", ("en", ""))


def test_files_that_are_not_of_one_model_are_refused(tmp_path):
    config = {"model_type": "t5"} | files.t5(tmp_path) | {"vocab_size": 99}
    files.write(tmp_path, {"config.json": config})
    folder = Folder(tmp_path)
    with pytest.raises(InputError, match=r"its tokenizer knows ids up to \d+, .* the model has 99"):
        read_vocabularies(folder, "t5", read_roles(config, {}), (99, 99), Languages("", ""))
    (tmp_path / "spiece.model").write_bytes(b"nonsense")
    with pytest.raises(InputError, match=r"spiece\.model: cannot be read as a SentencePiece model; download"):
        read_vocabularies(folder, "t5", read_roles(config, {}), (999, 999), Languages("", ""))
    (tmp_path / "spiece.model").write_bytes(b"version https://git-lfs and more\n")
    with pytest.raises(InputError, match=r"spiece\.model: .* only points at the file, .* run `git lfs pull` in "):
        read_vocabularies(folder, "t5", read_roles(config, {}), (999, 999), Languages("", ""))
    (tmp_path / "spiece.model").unlink()
    with pytest.raises(InputError, match="there is no tokenizer: neither a SentencePiece model"):
        read_vocabularies(folder, "t5", read_roles(config, {}), (999, 999), Languages("", ""))


def test_roles_but_the_end_must_be_single_ids():
    assert read_roles({"eos_token_id": [7], "pad_token_id": 3, "bos_token_id": 5}, {"eos_token_id": None}) == (
        *(3, 7, 5, 5),
        *((), ()),
    )
    found = read_roles({"eos_token_id": 1}, {"eos_token_id": [1, 107], "pad_token_id": 0, "bos_token_id": 2})
    assert (found.end, found.ends) == (1, (107,))
    for wrong in ({"bos_token_id": [1, 2]}, {"pad_token_id": "<pad>"}, {"eos_token_id": []}, {"eos_token_id": [1, -1]}):
        with pytest.raises(InputError, match=r"_token_id=.*: (one id is|ids are) needed, whole numbers from 0"):
            read_roles({"eos_token_id": 1, "pad_token_id": 0, "decoder_start_token_id": 0}, wrong)
    with pytest.raises(InputError, match="has decoder_start_token_id or bos_token_id"):
        read_roles({"eos_token_id": 1, "pad_token_id": 0}, {})
