"""A model that others trained and ship says here what it says there, and decodes molecules."""

import io
import os
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from flaxformer_lite.checkpoints.given import save_params
from flaxformer_lite.checkpoints.work_dir import WorkDir
from flaxformer_lite.cli.main import main
from flaxformer_lite.data.features import pad, tokenise
from flaxformer_lite.inference.predict import load
from flaxformer_lite.interop.families.tensors import pairs
from flaxformer_lite.interop.paths import flat, nested
from flaxformer_lite.models.build import make_decoding_model
from flaxformer_lite.train_step.state import param_shapes
from flaxformer_lite.types import Tokens
from tests.interop import molecules
from tests.micro import micro, use_devices

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
    shapes = {path: leaf.shape for path, leaf in flat(param_shapes(model)).items()}
    tensors, found = molecules.read_tensors(package), pairs(molecules.names(), shapes)
    assert sorted(pair.theirs for pair in found) == sorted(tensors)
    return nested({pair.ours: jnp.asarray(pair.layout.ours(tensors[pair.theirs], pair.shape)) for pair in found})


@pytest.fixture(scope="module")
def folder(params, vocabularies, tmp_path_factory):
    """An ordinary work folder."""
    work = WorkDir(tmp_path_factory.mktemp("molecules"))
    work.claim(CONFIG)
    work.save_vocabularies(*vocabularies)
    save_params(work.checkpoints, params)
    return work.path


@pytest.fixture(scope="module")
def theirs(package):
    """Logits by the package's own code, of padded rows of ids."""
    torch = pytest.importorskip("torch", reason="runs the package's own model: pip install -e '.[hf]'")
    code, device = molecules.their_code(package), torch.device("cpu")
    tensors = {name: torch.tensor(array) for name, array in molecules.read_tensors(package).items()}
    entries = len(tensors["decoder.fc_out.bias"])
    halves = (half(entries, 256, 3, 8, 512, 0.1, device, 102) for half in (code.Encoder, code.Decoder))
    model = code.Seq2Seq(*halves, molecules.PAD, molecules.PAD, device)
    model.load_state_dict(tensors)
    model.eval()

    def logits(source, target):
        with torch.no_grad():
            return model(torch.tensor(source).long(), torch.tensor(target).long())[0].numpy()

    return logits


def rows(vocabulary, texts):
    """Ids of texts, padded."""
    found = tokenise(vocabulary, texts)
    return pad(found, np.arange(len(texts)), int(found.lengths.max()), vocabulary.special)


def test_nothing_that_a_pickle_names_is_run():
    with pytest.raises(pickle.UnpicklingError, match="system is not among"):
        molecules.Inert(io.BytesIO(pickle.dumps(os.system))).load()


def test_parameters_are_as_many_as_published(params):
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 4_051_259


def test_tokens_are_those_of_smiles(vocabularies):
    source, target = vocabularies
    tokens = [source.token(i) for i in tokenise(source, ["Cl[C@@H]%10Br"]).ids]
    assert tokens == ["<sos>", "Cl", "[C@@H]", "%10", "Br", "<eos>"]
    assert [target.decode(target.encode(text)) for text in MOLECULES.values()] == list(MOLECULES.values())


def test_logits_are_the_packages(params, vocabularies, theirs):
    source, target = (rows(vocabulary, list(MOLECULES.values())) for vocabulary in vocabularies)
    read = np.roll(target.ids, 1, axis=1)
    read[:, 0] = molecules.BEGIN
    model = make_decoding_model(CONFIG, *(vocabulary.size for vocabulary in vocabularies))
    target_in = Tokens(jnp.asarray(read), target.segments, target.positions)
    found = jax.jit(model.apply, static_argnames="train")({"params": params}, source, target_in, train=False)
    inside = target.segments != 0
    expected = theirs(source.ids, np.where(inside, read, molecules.PAD))
    np.testing.assert_allclose(np.asarray(found)[inside], expected[inside], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("method", "count"), [("greedy", 1), ("beam", 5)])
def test_molecules_are_decoded(method, count, folder, vocabularies, theirs, monkeypatch):
    """Into others that can be, with the log-probabilities that the package's code gives them."""
    smiles = pytest.importorskip("partialsmiles", reason=molecules.INSTALL)
    use_devices(monkeypatch, 1)
    model = load(folder)
    decode = molecules.searched(CONFIG.decode, method, count)
    found = model.n_best(list(MOLECULES.values()), decode)
    for text, predictions in zip(MOLECULES.values(), found, strict=True):
        assert len({prediction.text for prediction in predictions}) == count
        for prediction in predictions:
            smiles.ParseSmiles(prediction.text, partial=False)
            source = tokenise(vocabularies[0], [text]).ids[None]
            target = tokenise(vocabularies[1], [prediction.text]).ids
            logits = theirs(source, np.concatenate([[molecules.BEGIN], target[:-1]])[None])[0].astype(np.float64)
            log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
            assert prediction.score == pytest.approx(log_probs[np.arange(len(target)), target].sum(), abs=1e-3)
            if method == "greedy":
                np.testing.assert_array_equal(logits.argmax(-1), target)


def test_the_command_decodes_them(folder, tmp_path, monkeypatch):
    use_devices(monkeypatch, 1)
    lines = tmp_path / "lines"
    lines.write_text("\n".join(MOLECULES.values()) + "\n")
    assert main(["decode", f"--workdir={folder}", f"--input={lines}", f"--output={tmp_path / 'out'}"]) == 0
    assert (tmp_path / "out").read_text().splitlines() == load(folder).decode(list(MOLECULES.values()))
