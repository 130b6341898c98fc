"""A trained model from another package (annalog) computes the same here, and decodes molecules."""

import io
import os
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from flaxformer_lite.checkpoints.checkpoint_manager import save_params
from flaxformer_lite.checkpoints.work_dir import WorkDir
from flaxformer_lite.cli.main import main
from flaxformer_lite.data.batching import pad, tokenize
from flaxformer_lite.inference.loaded_model import load_model
from flaxformer_lite.interop.families.name_map import match_params
from flaxformer_lite.models.encoder_decoder import make_decoding_model
from flaxformer_lite.train_step.state import param_shapes
from flaxformer_lite.types import Tokens
from tests.interop import molecules
from tests.micro_config import micro, use_devices

pytestmark = pytest.mark.slow

MOLECULES = {
    "aspirin": "CC(=O)Oc1ccccc1C(=O)O",
    "caffeine": "Cn1c(=O)c2c(ncn2C)n(C)c1=O",
    "nicotine": "CN1CCC[C@H]1c1cccnc1",
}
CONFIG = micro(molecules.SETTINGS)


@pytest.fixture(scope="module")
def package():
    return molecules.folder()


@pytest.fixture(scope="module")
def vocabularies(package):
    return molecules.read_vocabularies(package)


@pytest.fixture(scope="module")
def params(package, vocabularies):
    model = make_decoding_model(CONFIG, *(vocabulary.size for vocabulary in vocabularies))
    shapes = {path: leaf.shape for path, leaf in flatten_dict(param_shapes(model), sep="/").items()}
    tensors, found = molecules.read_tensors(package), match_params(molecules.name_map(), shapes)
    assert sorted(match.tensor for match in found) == sorted(tensors)
    return unflatten_dict(
        {match.param: jnp.asarray(match.layout.to_param(tensors[match.tensor], match.shape)) for match in found},
        sep="/",
    )


@pytest.fixture(scope="module")
def folder(params, vocabularies, tmp_path_factory):
    """A work directory."""
    work = WorkDir(tmp_path_factory.mktemp("molecules"))
    work.claim(CONFIG)
    work.save_vocabularies(*vocabularies)
    save_params(work.checkpoints, params)
    return work.path


@pytest.fixture(scope="module")
def reference(package):
    """A function from padded rows of ids to the logits of the package's own code."""
    torch = pytest.importorskip("torch", reason="runs the package's own model: pip install -e '.[hf]'")
    code, device = molecules.import_model_code(package), torch.device("cpu")
    tensors = {name: torch.tensor(array) for name, array in molecules.read_tensors(package).items()}
    entries = len(tensors["decoder.fc_out.bias"])
    stacks = (stack(entries, 256, 3, 8, 512, 0.1, device, 102) for stack in (code.Encoder, code.Decoder))
    model = code.Seq2Seq(*stacks, molecules.PAD, molecules.PAD, device)
    model.load_state_dict(tensors)
    model.eval()

    def logits(source, target):
        with torch.no_grad():
            return model(torch.tensor(source).long(), torch.tensor(target).long())[0].numpy()

    return logits


def rows(vocabulary, texts):
    """Ids of texts, padded."""
    found = tokenize(vocabulary, texts)
    return pad(found, np.arange(len(texts)), int(found.lengths.max()), vocabulary.special)


def test_a_pickle_cannot_run_code():
    with pytest.raises(pickle.UnpicklingError, match="system is not allowed"):
        molecules.SafeUnpickler(io.BytesIO(pickle.dumps(os.system))).load()


def test_the_number_of_parameters_is_the_published_one(params):
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 4_051_259


def test_tokenization_of_smiles(vocabularies):
    source, target = vocabularies
    tokens = [source.token(i) for i in tokenize(source, ["Cl[C@@H]%10Br"]).ids]
    assert tokens == ["<sos>", "Cl", "[C@@H]", "%10", "Br", "<eos>"]
    assert [target.decode(target.encode(text)) for text in MOLECULES.values()] == list(MOLECULES.values())


def test_logits_equal_the_packages(params, vocabularies, reference):
    source, target = (rows(vocabulary, list(MOLECULES.values())) for vocabulary in vocabularies)
    shifted = np.roll(target.ids, 1, axis=1)
    shifted[:, 0] = molecules.BEGIN
    model = make_decoding_model(CONFIG, *(vocabulary.size for vocabulary in vocabularies))
    target_in = Tokens(jnp.asarray(shifted), target.segments, target.positions)
    found = jax.jit(model.apply, static_argnames="train")({"params": params}, source, target_in, train=False)
    inside = target.segments != 0
    expected = reference(source.ids, np.where(inside, shifted, molecules.PAD))
    np.testing.assert_allclose(np.asarray(found)[inside], expected[inside], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("method", "count"), [("greedy", 1), ("beam", 5)])
def test_molecules_are_decoded(method, count, folder, vocabularies, reference, monkeypatch):
    """The outputs are valid molecules with the log-probabilities of the package's code."""
    smiles = pytest.importorskip("partialsmiles", reason=molecules.INSTALL)
    use_devices(monkeypatch, 1)
    model = load_model(folder)
    decode = molecules.decode_config(CONFIG.decode, method, count)
    found = model.n_best(list(MOLECULES.values()), decode)
    for text, predictions in zip(MOLECULES.values(), found, strict=True):
        assert len({prediction.text for prediction in predictions}) == count
        for prediction in predictions:
            smiles.ParseSmiles(prediction.text, partial=False)
            source = tokenize(vocabularies[0], [text]).ids[None]
            target = tokenize(vocabularies[1], [prediction.text]).ids
            logits = reference(source, np.concatenate([[molecules.BEGIN], target[:-1]])[None])[0].astype(np.float64)
            log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
            assert prediction.score == pytest.approx(log_probs[np.arange(len(target)), target].sum(), abs=1e-3)
            if method == "greedy":
                np.testing.assert_array_equal(logits.argmax(-1), target)


def test_the_command_decodes_them(folder, tmp_path, monkeypatch):
    use_devices(monkeypatch, 1)
    lines = tmp_path / "lines"
    lines.write_text("\n".join(MOLECULES.values()) + "\n")
    assert main(["decode", f"--workdir={folder}", f"--input={lines}", f"--output={tmp_path / 'out'}"]) == 0
    assert (tmp_path / "out").read_text().splitlines() == load_model(folder).decode(list(MOLECULES.values()))
