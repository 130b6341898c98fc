"""Every published size against transformers: all tensors by name and shape, none missing and none left over."""

import jax
import pytest

from benchmarks.families import PUBLISHED, TYPES, model_of
from flaxformer_lite.interop.families.known import FAMILIES
from flaxformer_lite.interop.families.settings import flat, require_expressible
from flaxformer_lite.interop.families.tensors import is_unused, pairs
from flaxformer_lite.models import families
from flaxformer_lite.models.scanned import layer_by_layer
from flaxformer_lite.train_step.state import param_shapes
from tests.reference import torch, transformers

pytestmark = pytest.mark.filterwarnings("ignore")  # those of other libraries are not ours to mend

_QUICK = ("small", "s-s", "9b-2b", "base", "large-50", "418m")
CASES = [
    pytest.param(*name, marks=() if name[1] in _QUICK else pytest.mark.slow, id="-".join(name))
    for name in PUBLISHED
    if TYPES[name[0]]
]


@pytest.mark.parametrize(("name", "size"), CASES)
def test_its_tensors_are_the_references(name, size):
    kind = TYPES[name]
    family, model = FAMILIES[kind], model_of(name, size)
    config = model.config
    require_expressible(family, config)
    settings = family.from_model(flat(config))
    special = getattr(families, name)(size).special
    ids = {"pad_token_id": special.pad, "eos_token_id": special.end, "decoder_start_token_id": special.start}
    sides = {"encoder": {"vocab_size": 256_000}, "decoder": {"vocab_size": 256_000}} if kind == "t5gemma" else {}
    settings |= {side: {**settings[side], **values} for side, values in sides.items()}
    if kind == "marian":
        settings["decoder_vocab_size"] = model.target_size
    theirs = transformers.AutoConfig.for_model(kind, **{**settings, "vocab_size": model.target_size, **ids})
    with torch.device("meta"):
        reference = transformers.AutoModelForSeq2SeqLM.from_config(theirs)
    shapes = {key: tuple(tensor.shape) for key, tensor in reference.state_dict().items()}
    each = jax.eval_shape(layer_by_layer, param_shapes(model))
    ours = {jax.tree_util.keystr(k, simple=True, separator="/"): x.shape for k, x in jax.tree.leaves_with_path(each)}
    names = family.names(config)
    found = pairs(names, ours)
    assert {pair.theirs: shapes[pair.theirs] for pair in found} == {
        pair.theirs: pair.layout.shape(pair.shape) for pair in found
    }
    read = {name for pair in found for name in (pair.theirs, *names.aliases.get(pair.theirs, ()))}
    assert [name for name in shapes if name not in read and not is_unused(names, name)] == []
