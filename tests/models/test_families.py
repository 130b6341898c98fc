"""Published families have as many parameters as were published, counted without making any."""

import jax
import pytest

from configs import base
from flaxformer_lite import schema
from flaxformer_lite.errors import InputError
from flaxformer_lite.models import families
from flaxformer_lite.models.encoder_decoder import EncoderDecoder
from flaxformer_lite.train_state import param_shapes

# As files of weights say, and where those are not at hand papers do, in whole millions. Those of BART and its kin are
# without the biases of logits, which are no parameters there, and without tables of sines and cosines.
COUNTS = {
    ("t5", "small"): 60_506_624,
    ("t5", "base"): 222_903_552,
    ("t5", "large"): 737_668_096,
    ("t5", "3b"): 2_851_598_336,
    ("t5", "11b"): 11_307_321_344,
    ("t5_1_1", "small"): 76_961_152,
    ("t5_1_1", "base"): 247_577_856,
    ("t5_1_1", "large"): 783_150_080,
    ("t5_1_1", "xl"): 2_849_757_184,
    ("t5_1_1", "xxl"): 11_135_332_352,
    ("mt5", "small"): 300_176_768,
    ("mt5", "base"): 582_401_280,
    ("mt5", "large"): 1_229_581_312,
    ("mt5", "xl"): 3_742_619_648,
    ("mt5", "xxl"): 12_921_057_280,
    ("byt5", "small"): 299_637_760,
    ("byt5", "base"): 581_653_248,
    ("bart", "base"): 139_420_416,
    ("bart", "large"): 406_291_456,
    ("mbart", "large-cc25"): 610_851_840,
    ("mbart", "large-50"): 610_879_488,
    ("pegasus", "large"): 568_699_904,
    ("m2m_100", "418m"): 483_905_536,
    ("m2m_100", "1.2b"): 1_239_470_080,
    ("nllb", "600m"): 615_073_792,
    ("nllb", "1.3b"): 1_370_638_336,
    ("nllb", "3.3b"): 3_344_863_232,
    ("t5gemma", "s-s"): 312_517_632,
    ("t5gemma", "b-b"): 591_490_560,
    ("t5gemma", "ml-ml"): 2_200_345_344,
    ("t5gemma", "xl-xl"): 3_766_980_608,
    ("t5gemma", "9b-2b"): 12_292_375_296,
    ("t5gemma", "9b-9b"): 20_333_401_088,
}
ROUNDED = {
    ("vaswani", "base"): 65,  # million
    ("vaswani", "big"): 213,
    ("byt5", "large"): 1_230,
    ("byt5", "xl"): 3_740,
    ("byt5", "xxl"): 12_900,
    ("umt5", "small"): 306,
    ("umt5", "base"): 590,
    ("umt5", "xl"): 3_770,
    ("umt5", "xxl"): 12_900,
    ("marian", "base"): 74,
    ("marian", "big"): 236,
    ("t5gemma", "l-l"): 1_242,
    ("t5gemma", "2b-2b"): 5_597,
}


def model_of(family: str, size: str) -> EncoderDecoder:
    published = getattr(families, family)(size)
    values = base.get_config()
    values.data.share_vocabulary = True
    values.model.update_from_flattened_dict({**published.model, "scan_layers": True})  # of which tracing is quick
    entries = published.vocabulary or 58_101
    model = schema.from_dict(values.to_dict()).model
    return EncoderDecoder(model, entries, entries, model.position_details.longest)


def count(model: EncoderDecoder) -> int:
    """Of parameters, without a bias of logits that the reference does not count."""
    shapes = param_shapes(model)
    tied = model.config.share_embeddings in ("all", "target")
    uncounted = model.target_size if tied and model.config.output.bias == "always" else 0
    return sum(x.size for x in jax.tree.leaves(shapes)) - uncounted


@pytest.mark.parametrize(("name", "published"), COUNTS.items(), ids=str)
def test_it_has_as_many_parameters_as_were_published(name, published):
    assert count(model_of(*name)) == published


@pytest.mark.parametrize(("name", "millions"), ROUNDED.items(), ids=str)
def test_it_has_about_as_many_as_the_paper_says(name, millions):
    assert count(model_of(*name)) / 1e6 == pytest.approx(millions, rel=0.03)


def test_an_unknown_size_is_named():
    with pytest.raises(InputError, match="'huge' is no size of this family; it has small, base, large, 3b, 11b"):
        families.t5("huge")
