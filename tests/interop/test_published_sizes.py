"""Every published size has the tensors of transformers, by name and shape, none missing and none left over."""

import jax
import pytest
from flax.traverse_util import flatten_dict

from benchmarks.families import PUBLISHED, TYPES, model_of
from flaxformer_lite.interop.families.config_map import architecture, differences
from flaxformer_lite.interop.families.family_table import FAMILIES
from flaxformer_lite.interop.families.name_map import is_unused, match_params
from flaxformer_lite.models import presets
from flaxformer_lite.models.transformer.scan import unstack_layers
from flaxformer_lite.train_step.state import param_shapes
from tests.transformers_reference import torch, transformers

pytestmark = pytest.mark.filterwarnings("ignore")  # raised by other libraries

_QUICK = ("small", "s-s", "9b-2b", "base", "large-50", "418m")
CASES = [
    pytest.param(*name, marks=() if name[1] in _QUICK else pytest.mark.slow, id="-".join(name))
    for name in PUBLISHED
    if TYPES[name[0]]
]


@pytest.mark.parametrize(("name", "size"), CASES)
def test_tensors_equal_the_references(name, size):
    kind = TYPES[name]
    family, model = FAMILIES[kind], model_of(name, size)
    config = model.config
    assert differences(family, config) == []
    settings = family.model_to_config(architecture(config))
    special = getattr(presets, name)(size).special
    ids = {"pad_token_id": special.pad, "eos_token_id": special.end, "decoder_start_token_id": special.start}
    sides = {"encoder": {"vocab_size": 256_000}, "decoder": {"vocab_size": 256_000}} if kind == "t5gemma" else {}
    settings |= {side: {**settings[side], **values} for side, values in sides.items()}
    if kind == "marian":
        settings["decoder_vocab_size"] = model.target_size
    reference_config = transformers.AutoConfig.for_model(kind, **{**settings, "vocab_size": model.target_size, **ids})
    with torch.device("meta"):
        reference = transformers.AutoModelForSeq2SeqLM.from_config(reference_config)
    shapes = {key: tuple(tensor.shape) for key, tensor in reference.state_dict().items()}
    params = flatten_dict(jax.eval_shape(unstack_layers, param_shapes(model)), sep="/")
    names = family.name_map(config)
    matches = match_params(names, {path: leaf.shape for path, leaf in params.items()})
    assert {match.tensor: shapes[match.tensor] for match in matches} == {
        match.tensor: match.layout.tensor_shape(match.shape) for match in matches
    }
    read = {name for match in matches for name in (match.tensor, *names.aliases.get(match.tensor, ()))}
    assert [name for name in shapes if name not in read and not is_unused(names, name)] == []
