"""ByT5 from scratch: bytes instead of subwords, and an encoder of three times the decoder's depth (Xue et al. 2022).

Model    12 + 4 layers of 1,472, 6 heads, relative positions, gated feed-forward; 299 M parameters
Data     your own text, as configs/text.py takes it; bytes for both sides
Expect   that depends on your text; watch eval/chrf and eval/bleu. Not run here
Time     hours to days on accelerators; flaxformer-lite plan --config=configs/byt5.py estimates memory and speed
Train    flaxformer-lite train --config=configs/byt5.py --workdir=runs/byt5 \
             --config.data.text.train=train.src,train.trg --config.data.text.validation=val.src,val.trg
Vary     other sizes: presets.byt5 below (base, large, xl, xxl)
         as deep as the encoder: --config.model.decoder.num_layers=12
"""

from ml_collections import ConfigDict

from flaxformer_lite.models import presets
from flaxformer_lite.run_cards import t5


def get_config() -> ConfigDict:
    """What differs from configs/t5.py."""
    config = t5.get_config()

    for vocabulary in (config.data.source_vocabulary, config.data.target_vocabulary):
        vocabulary.kind, vocabulary.size = "byte", 0
    config.data.max_source_length = 1024
    config.data.max_target_length = 1024
    config.model.update_from_flattened_dict(presets.byt5("small").model)
    return config
