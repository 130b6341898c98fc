"""The models that the tests run over."""

from functools import cache

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


# Every pair of options is in one of these.
TRANSFORMERS = {
    "sinusoidal, before, target, 1 + 2": _transformer("sinusoidal", "before", "target", (1, 2)),
    "sinusoidal, after, all": _transformer("sinusoidal", "after", "all", (1, 1)),
    "sinusoidal, after, none": _transformer("sinusoidal", "after", "none", (1, 1)),
    "learned, before, none": _transformer("learned", "before", "none", (1, 1)),
    "learned, before, all": _transformer("learned", "before", "all", (1, 1)),
    "learned, after, target, 2 + 1": _transformer("learned", "after", "target", (2, 1)),
}
MODELS = {**TRANSFORMERS}  # a new model adds itself here, and to these where it takes packed rows
TAKE_PACKED_ROWS = list(TRANSFORMERS)
SILENT = ("key_bias",)  # adds the same to all logits of a query, which softmax takes away again


@cache
def subject(name: str) -> contract.Subject:
    """A model ready to be tested; compiled functions are shared by all tests."""
    return contract.Subject(MODELS[name])
