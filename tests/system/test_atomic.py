"""Atomic writes of files and directories."""

import errno

import pytest

from flaxformer_lite.errors import InputError
from flaxformer_lite.system.atomic import atomic_dir, atomic_write, require_free


def test_a_file_is_replaced_whole_or_stays_as_it_was(tmp_path):
    place = tmp_path / "a.json"
    place.write_text("before")

    def break_off():
        with atomic_write(place) as draft:
            draft.write_text("half")
            assert place.read_text() == "before"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert place.read_text() == "before"
    with atomic_write(place) as draft:
        draft.write_text("after")
    assert place.read_text() == "after"
    assert list(tmp_path.iterdir()) == [place]


@pytest.mark.parametrize(
    ("number", "said"),
    [
        *((number, "check permissions") for number in (errno.EACCES, errno.EROFS)),
        (errno.ENOTDIR, "choose another path"),
        (errno.ENOSPC, "free some space"),
    ],
)
def test_what_hinders_it_is_named(tmp_path, number, said):
    with pytest.raises(InputError, match=rf"a\.json: .*{said}"), atomic_write(tmp_path / "a.json"):
        raise OSError(number, "so")


def test_a_directory_appears_completely_or_not_at_all(tmp_path):
    path = tmp_path / "new"

    def interrupt():
        with atomic_dir(path) as partial:
            (partial / "file").write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert list(tmp_path.iterdir()) == []
    path.mkdir()
    require_free(path)
    with atomic_dir(path) as partial:
        (partial / "file").write_text("whole")
        assert list(path.iterdir()) == []
    assert [(path / "file").read_text(), *tmp_path.iterdir()] == ["whole", path]
    with pytest.raises(InputError, match="new: exists already; choose a new directory"):
        require_free(path)
