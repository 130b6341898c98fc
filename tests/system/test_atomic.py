"""Atomic writes of files and directories."""

import errno

import pytest

from flaxformer_lite.errors import InputError
from flaxformer_lite.system.atomic import atomic_dir, atomic_write, require_free


def test_a_file_is_replaced_completely_or_not_at_all(tmp_path):
    path = tmp_path / "a.json"
    path.write_text("before")

    def break_off():
        with atomic_write(path) as partial:
            partial.write_text("half")
            assert path.read_text() == "before"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert path.read_text() == "before"
    with atomic_write(path) as partial:
        partial.write_text("after")
    assert path.read_text() == "after"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("number", "message"),
    [
        *((number, "check permissions") for number in (errno.EACCES, errno.EROFS)),
        (errno.ENOTDIR, "choose another path"),
        (errno.ENOSPC, "free some space"),
    ],
)
def test_errors_name_the_remedy(tmp_path, number, message):
    with pytest.raises(InputError, match=rf"a\.json: .*{message}"), atomic_write(tmp_path / "a.json"):
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
