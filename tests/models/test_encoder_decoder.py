import dataclasses
import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest

from flaxformer_lite.config.model_dataclasses import ModelConfig
from flaxformer_lite.config.value_types import Options
from flaxformer_lite.errors import InputError
from flaxformer_lite.models.encoder_decoder import EncoderDecoder
from tests.models.contract import MAX_LENGTH, SOURCE, SOURCE_SIZE, TARGET, TARGET_SIZE
from tests.models.subjects import MODELS

source, target = (jax.tree.map(jnp.asarray, tokens) for tokens in (SOURCE, TARGET))
PLAIN = MODELS["learned, pre, none"].config
CONV = MODELS["convolutional encoder"].config


class ParallelDecoder(nn.Module):
    """A decoder without incremental decoding, nor attention to the source."""

    @nn.compact
    def __call__(self, x, target_in, encoded, train):
        return nn.Dense(x.shape[-1])(x)

    def project_source(self, encoder_output):
        return encoder_output.states


def model_of(config: ModelConfig) -> EncoderDecoder:
    return EncoderDecoder(config, SOURCE_SIZE, TARGET_SIZE, MAX_LENGTH)


def with_stack(config: ModelConfig, side: str, **changes: object) -> ModelConfig:
    return dataclasses.replace(config, **{side: dataclasses.replace(getattr(config, side), **changes)})


def search(config: ModelConfig) -> None:
    """Traces everything that a search calls."""

    def run(model: EncoderDecoder) -> object:
        encoded = model.encode(source, train=False)
        model.attention(target, encoded)
        return model.step(target.ids[:, :1], model.init_cache(encoded, 1, 3), encoded)

    jax.eval_shape(lambda key: nn.init(run, model_of(config))(key), jax.random.key(0))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            dataclasses.replace(PLAIN, scan_layers=True),
            "config.model.scan_layers=True: a scanned decoder can be trained",
        ),
        (
            with_stack(PLAIN, "decoder", kind=f"{__name__}:ParallelDecoder"),
            f"config.model.decoder.kind='{__name__}:ParallelDecoder': can be trained but not searched; implement",
        ),
    ],
)
def test_a_decoder_without_incremental_decoding_is_trainable_and_searches_refuse_it(config, message):
    keys = {"params": jax.random.key(0), "dropout": jax.random.key(1)}
    jax.eval_shape(lambda keys: model_of(config).init(keys, source, target, train=True), keys)
    with pytest.raises(InputError, match=re.escape(message)):
        search(config)


def test_options_of_a_user_defined_encoder_are_checked():
    config = with_stack(CONV, "encoder", options=Options(kernel=3))
    with pytest.raises(InputError, match=r"config\.model\.encoder\.options\.kernel: .*did you mean kernel_size\?"):
        search(config)
    search(CONV)


def test_max_supported_length_is_that_of_the_shorter_stack():
    assert model_of(PLAIN).max_supported_length == MAX_LENGTH
    positions = dataclasses.replace(PLAIN.decoder.positions, max_length=5)
    assert model_of(with_stack(PLAIN, "decoder", positions=positions)).max_supported_length == 5
    assert MODELS["rotary"].max_supported_length == float("inf")
