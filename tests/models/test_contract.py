import pytest

from tests.marks import slow_except
from tests.models import contract
from tests.models.subjects import MODELS, TAKE_PACKED_ROWS, WITHOUT_EFFECT, subject

# Every option is in one of these.
_QUICK = (
    *("sinusoidal, pre, target, 1 + 2", "sinusoidal, post, all", "learned, pre, none", "relative bias"),
    *("relative bias per layer", "rotary", "sinusoidal_fairseq", "different stacks"),
    *("lstm, backward, sutskever, 1 + 2", "gru, both, cho, 2 + 1", "gru2014, both, bahdanau, additive"),
    *("lstm, forward, bahdanau, dot, 2 + 2", "elman, both, luong, concat", "lstm, both, luong, general, fed, 1 + 2"),
    *("rnn to transformer", "transformer to bahdanau", "convolutional encoder"),
)


@pytest.mark.parametrize("name", slow_except(_QUICK, MODELS))
@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_contract(check, name):
    check(subject(name))


@pytest.mark.parametrize("name", slow_except(_QUICK, MODELS))
def test_gradients(name):
    contract.check_gradients(subject(name), WITHOUT_EFFECT)


@pytest.mark.parametrize("name", slow_except(_QUICK, TAKE_PACKED_ROWS))
def test_packed_rows(name):
    contract.check_packed_rows(subject(name))
