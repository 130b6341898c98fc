"""mT5 from scratch: T5 1.1 over a large vocabulary of many languages (Xue et al. 2021).

Model    8 + 8 layers of 512, 6 heads, relative positions, gated feed-forward; 300.2 M parameters
Data     your own text, as configs/text.py takes it; 250,000 SentencePieces of your text for both sides
Expect   that depends on your text; watch eval/chrf and eval/bleu. Not run here
Time     hours to days on accelerators; flaxformer-lite plan --config=configs/mt5.py estimates memory and speed
Train    flaxformer-lite train --config=configs/mt5.py --workdir=runs/mt5 \
             --config.data.text.train=train.src,train.trg --config.data.text.validation=val.src,val.trg
Vary     other sizes: presets.mt5 below (base, large, xl, xxl)
         fewer pieces for fewer languages: --config.data.source_vocabulary.size=32000 (and target_vocabulary)
"""

from ml_collections import ConfigDict

from flaxformer_lite.models import presets
from flaxformer_lite.run_cards import t5


def get_config() -> ConfigDict:
    """What differs from configs/t5.py."""
    config = t5.get_config()

    for vocabulary in (config.data.source_vocabulary, config.data.target_vocabulary):
        vocabulary.size = 250_000
    config.model.update_from_flattened_dict(presets.mt5("small").model)
    return config
