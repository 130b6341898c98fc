"""Pegasus's architecture from scratch (Zhang et al. 2020).

Model    16 + 16 layers of 1,024, 16 heads, sines and cosines, norm before each sublayer; 568.7 M parameters
Data     your own text, as configs/text.py takes it; 96,000 SentencePieces of your text for both sides
Expect   that depends on your text; watch eval/chrf and eval/bleu. Not run here
Time     hours to days on accelerators; flaxformer-lite plan --config=configs/pegasus.py estimates memory and speed
Train    flaxformer-lite train --config=configs/pegasus.py --workdir=runs/pegasus \
             --config.data.text.train=train.src,train.trg --config.data.text.validation=val.src,val.trg
Vary     other sizes: presets.pegasus below (none other published)
         half as deep: --config.model.encoder.num_layers=8
"""

from ml_collections import ConfigDict

from flaxformer_lite.models import presets
from flaxformer_lite.run_cards import t5, text


def get_config() -> ConfigDict:
    """What differs from configs/text.py; trained as configs/t5.py."""
    return t5.trained(text.of_family(presets.pegasus("large"), pieces=96_000, longest=512))
