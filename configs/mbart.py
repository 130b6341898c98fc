"""mBART's architecture from scratch (Liu et al. 2020; Tang et al. 2020).

Model    12 + 12 layers of 1,024, 16 heads, learned positions, norm before each sublayer; 610.9 M parameters
Data     your own text, as configs/text.py takes it; 250,000 SentencePieces of your text for both sides
Expect   that depends on your text; watch eval/chrf and eval/bleu. Not run here
Time     hours to days on accelerators; flaxformer-lite plan --config=configs/mbart.py estimates memory and speed
Train    flaxformer-lite train --config=configs/mbart.py --workdir=runs/mbart \
             --config.data.text.train=train.src,train.trg --config.data.text.validation=val.src,val.trg
Vary     other sizes: presets.mbart below (large-cc25)
         as small as BART: --config.model.encoder.width=768 --config.model.encoder.num_heads=12 \
             --config.model.encoder.mlp_dim=3072
"""

from ml_collections import ConfigDict

from flaxformer_lite.models import presets
from flaxformer_lite.run_cards import bart, text


def get_config() -> ConfigDict:
    """What differs from configs/text.py; trained as configs/bart.py."""
    return bart.trained(text.of_family(presets.mbart("large-50"), pieces=250_000, longest=512))
