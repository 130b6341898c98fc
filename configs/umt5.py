"""UMT5 from scratch: mT5 whose layers each have relative positions of their own (Chung et al. 2023).

Model    8 + 8 layers of 512, 6 heads, relative positions in each layer; 306.6 M parameters
Data     your own text, as configs/text.py takes it; 256,000 SentencePieces of your text for both sides
Expect   that depends on your text; watch eval/chrf and eval/bleu. Not run here
Time     hours to days on accelerators; flaxformer-lite plan --config=configs/umt5.py estimates memory and speed
Train    flaxformer-lite train --config=configs/umt5.py --workdir=runs/umt5 \
             --config.data.text.train=train.src,train.trg --config.data.text.validation=val.src,val.trg
Vary     other sizes: presets.umt5 below (base, xl, xxl)
         one bias for all layers: --config.model.encoder.positions.per_layer=False
"""

from ml_collections import ConfigDict

from flaxformer_lite.models import presets
from flaxformer_lite.run_cards import t5


def get_config() -> ConfigDict:
    """What differs from configs/t5.py."""
    config = t5.get_config()

    for vocabulary in (config.data.source_vocabulary, config.data.target_vocabulary):
        vocabulary.size = 256_000
    config.model.update_from_flattened_dict(presets.umt5("small").model)
    return config
