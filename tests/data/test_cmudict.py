"""CMUdict: splits, alternative pronunciations, stress marks."""

import collections
import subprocess
import sys

import pytest

from flaxformer_lite.config.dataclasses import CmudictConfig
from flaxformer_lite.data import cmudict
from flaxformer_lite.errors import InputError

_TEXT = """\
'bout B AW1 T
lead L EH1 D
lead(2) L IY1 D # to guide
aalborg AO1 L B AO0 R G # place, danish
record R EH1 K ER0 D
record(2) R IH0 K AO1 R D
record(3) R IH1 K AO1 R D
"""


@pytest.fixture
def small(monkeypatch, tmp_path):
    """A dictionary of 40 words."""
    file = tmp_path / "cmudict.dict"
    file.write_text(_TEXT + "".join(f"word{i} W ER1 D\n" for i in range(36)), encoding="utf-8")
    monkeypatch.setattr(cmudict, "_dictionary_file", lambda: file)
    return str(tmp_path / "prepared")


def test_parse():
    assert cmudict.parse(_TEXT) == {
        "'bout": ["B AW1 T"],
        "lead": ["L EH1 D", "L IY1 D"],
        "aalborg": ["AO1 L B AO0 R G"],
        "record": ["R EH1 K ER0 D", "R IH0 K AO1 R D", "R IH1 K AO1 R D"],
    }


def test_the_published_splits():
    found = cmudict.parse(cmudict._dictionary_file().read_text("utf-8"))
    sizes = collections.Counter(cmudict.split_of(index) for index in range(len(found)))
    assert sizes == {"train": 107_146, "validation": 6_302, "test": 12_604}
    assert all(p and p == p.strip() and "#" not in p for these in found.values() for p in these)
    assert not [word for word in found if "(" in word or "#" in word]


def test_load(small):
    words, pronunciations = cmudict.load(CmudictConfig(keep_stress=False, data_dir=small), "train")
    assert words == ["'bout", "lead", "aalborg", "record", *(f"word{i}" for i in [*range(13), *range(16, 33)])]
    assert pronunciations[:4] == [
        ("B AW T",),
        ("L EH D", "L IY D"),
        ("AO L B AO R G",),
        ("R EH K ER D", "R IH K AO R D"),  # two of three differ in stress only
    ]
    with_stress = CmudictConfig(keep_stress=True, data_dir=small)
    assert cmudict.load(with_stress, "train")[1][3] == ("R EH1 K ER0 D", "R IH0 K AO1 R D", "R IH1 K AO1 R D")
    assert cmudict.load(with_stress, "test")[0] == ["word13", "word14", "word33", "word34"]
    assert cmudict.load(with_stress, "validation") == (["word15", "word35"], [("W ER1 D",)] * 2)


def test_the_data_set_is_prepared_once_in_the_cache_directory(small, monkeypatch, tmp_path, caplog, capfd):
    caplog.set_level("INFO", logger="flaxformer_lite")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    config = CmudictConfig(keep_stress=False, data_dir="")
    cmudict.load(config, "test")
    (message,) = caplog.messages
    assert message.startswith("preparing data set cmudict")
    assert str(tmp_path / "cache" / "flaxformer_lite") in message
    cmudict.load(config, "train")
    assert caplog.messages == [message]
    assert capfd.readouterr().out == ""


def test_a_directory_that_cannot_be_written(small, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"config\.data\.cmudict\.data_dir=.*file"):
        cmudict.load(CmudictConfig(keep_stress=False, data_dir=str(tmp_path / "file")), "test")


@pytest.mark.slow
def test_processes_that_start_together(tmp_path):
    code = (
        "import sys\n"
        "from flaxformer_lite.config.dataclasses import CmudictConfig\n"
        "from flaxformer_lite.data import cmudict\n"
        f"words, _ = cmudict.load(CmudictConfig(False, {str(tmp_path)!r}), 'validation')\n"
        "assert not {'tensorflow', 'cmudict'} & sys.modules.keys()\n"
        "print(len(words))\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert [process.communicate()[0] for process in processes] == ["6302\n", "6302\n"]
    assert len(list((tmp_path / "cmudict").iterdir())) == 1  # no incomplete directory is left
