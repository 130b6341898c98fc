"""M2M-100's architecture from scratch (Fan et al. 2020).

Model    12 + 12 layers of 1,024, 16 heads, sines and cosines, layers left out at random; 483.9 M parameters
Data     your own text, as configs/text.py takes it; 128,000 SentencePieces of your text for both sides
Expect   that depends on your text; watch eval/chrf and eval/bleu. Not run here
Time     hours to days on accelerators; flaxformer-lite plan --config=configs/m2m_100.py estimates memory and speed
Train    flaxformer-lite train --config=configs/m2m_100.py --workdir=runs/m2m_100 \
             --config.data.text.train=train.src,train.trg --config.data.text.validation=val.src,val.trg
Vary     other sizes: presets.m2m_100 below (1.2b)
         every layer in every step: --config.model.encoder.layerdrop=0
"""

from ml_collections import ConfigDict

from flaxformer_lite.models import presets
from flaxformer_lite.run_cards import bart, text


def get_config() -> ConfigDict:
    """What differs from configs/text.py; trained as configs/bart.py."""
    return bart.trained(text.of_family(presets.m2m_100("418m"), pieces=128_000, longest=512))
