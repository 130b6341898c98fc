import pytest

from tests.models import contract
from tests.models.subjects import MODELS, TAKE_PACKED_ROWS, WITHOUT_EFFECT, subject


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_contract(check, name):
    check(subject(name))


@pytest.mark.parametrize("name", MODELS)
def test_gradients(name):
    contract.check_gradients(subject(name), WITHOUT_EFFECT)


@pytest.mark.parametrize("name", TAKE_PACKED_ROWS)
def test_packed_rows(name):
    contract.check_packed_rows(subject(name))
