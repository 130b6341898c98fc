"""OPUS-MT's architecture from scratch: Marian's Transformer (Junczys-Dowmunt et al. 2018; Tiedemann & Thottingal 2020).

Model    6 + 6 layers of 512, 8 heads, sines and cosines, swish, norm after each sublayer; 73.9 M parameters
Data     your own text, as configs/text.py takes it; 58,000 SentencePieces of your text for both sides
Expect   that depends on your text; watch eval/chrf and eval/bleu. Not run here
Time     hours to days on accelerators; flaxformer-lite plan --config=configs/marian.py estimates memory and speed
Train    flaxformer-lite train --config=configs/marian.py --workdir=runs/marian \
             --config.data.text.train=train.src,train.trg --config.data.text.validation=val.src,val.trg
Vary     other sizes: presets.marian below (big)
         a vocabulary for each language: --config.model.share_embeddings=target --config.data.share_vocabulary=False
"""

from ml_collections import ConfigDict

from flaxformer_lite.models import presets
from flaxformer_lite.run_cards import text


def get_config() -> ConfigDict:
    """What differs from configs/text.py."""
    config = text.of_family(presets.marian("base"), pieces=58_000, longest=256)
    config.optim.learning_rate = 3e-4
    config.optim.schedule = "inverse_sqrt"
    config.optim.warmup_steps = 16_000
    return config
