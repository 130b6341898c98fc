from functools import cache

import pytest

from flaxformer_lite.config import ModelConfig
from flaxformer_lite.models.transformer import Transformer
from tests.models import contract


def _transformer(positions: str, norm: str, share: str, layers: tuple[int, int]) -> Transformer:
    config = ModelConfig(
        width=8,
        num_heads=2,
        mlp_width=12,
        num_layers=layers[0],
        num_decoder_layers=layers[1],
        positions=positions,
        norm=norm,
        share_embeddings=share,
        dropout=0.5,
    )
    return Transformer(config, contract.SOURCE_SIZE, contract.TARGET_SIZE, contract.LONGEST)


# Every pair of options is in one of these. A new model adds a line here.
_MODELS = {
    "sinusoidal, before, target, 1 + 2": _transformer("sinusoidal", "before", "target", (1, 2)),
    "sinusoidal, after, all": _transformer("sinusoidal", "after", "all", (1, 1)),
    "sinusoidal, after, none": _transformer("sinusoidal", "after", "none", (1, 1)),
    "learned, before, none": _transformer("learned", "before", "none", (1, 1)),
    "learned, before, all": _transformer("learned", "before", "all", (1, 1)),
    "learned, after, target, 2 + 1": _transformer("learned", "after", "target", (2, 1)),
}
_TAKES_PACKED_ROWS = list(_MODELS)
_SILENT = ("key_bias",)  # adds the same to all logits of a query, which softmax takes away again


@cache
def _subject(name: str) -> contract.Subject:
    return contract.Subject(_MODELS[name])


@pytest.mark.parametrize("name", _MODELS)
@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_contract(check, name):
    check(_subject(name))


@pytest.mark.parametrize("name", _MODELS)
def test_gradients(name):
    contract.check_gradients(_subject(name), _SILENT)


@pytest.mark.parametrize("name", _TAKES_PACKED_ROWS)
def test_packed_rows(name):
    contract.check_packed_rows(_subject(name))
