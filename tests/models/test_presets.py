"""Presets have the published numbers of parameters, counted without allocating any."""

import pytest

from benchmarks.families import PUBLISHED, count, sizes_table
from flaxformer_lite.errors import InputError
from flaxformer_lite.models import presets

_MISNAMED = ("m2m_100", "418m")  # the model of this name has 484 M
_KNOWN = [name for name, (number, _) in PUBLISHED.items() if number and name != _MISNAMED]


@pytest.mark.parametrize(("family", "size"), _KNOWN, ids=str)
def test_number_of_parameters_is_the_published_one(family, size):
    number, _, unit = PUBLISHED[family, size][0].partition(" ")
    found = count(family, size)
    if unit:
        assert found / {"M": 1e6, "B": 1e9}[unit] == pytest.approx(float(number), rel=0.06)
    else:
        assert f"{found:,}" == number


def test_the_document_has_these_sizes(repository):
    assert sizes_table() in (repository / "docs/published_models.md").read_text("utf-8")


def test_an_unknown_size_is_named():
    with pytest.raises(InputError, match="'huge' is no size of this family; it has small, base, large, 3b, 11b"):
        presets.t5("huge")
