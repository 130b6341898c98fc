"""T5 1.1 from scratch, the architecture of Flan-T5 too (Chung et al. 2022): gated GELU, output vectors of its own.

Model    8 + 8 layers of 512, 6 heads, relative positions, gated feed-forward; 77.0 M parameters
Data     your own text, as configs/text.py takes it; 32,000 SentencePieces of your text for both sides
Expect   that depends on your text; watch eval/chrf and eval/bleu. Not run here
Time     hours to days on accelerators; flaxformer-lite plan --config=configs/t5_1_1.py estimates memory and speed
Train    flaxformer-lite train --config=configs/t5_1_1.py --workdir=runs/t5_1_1 \
             --config.data.text.train=train.src,train.trg --config.data.text.validation=val.src,val.trg
Vary     other sizes: presets.t5_1_1 below (base, large, xl, xxl)
         what was pretrained: flaxformer-lite import
"""

from ml_collections import ConfigDict

from flaxformer_lite.models import presets
from flaxformer_lite.run_cards import t5


def get_config() -> ConfigDict:
    """What differs from configs/t5.py."""
    config = t5.get_config()
    config.model.update_from_flattened_dict(presets.t5_1_1("small").model)
    return config
