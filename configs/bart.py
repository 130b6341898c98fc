"""BART's architecture from scratch (Lewis et al. 2020).

Model    6 + 6 layers of 768, 12 heads, learned positions, norm after each sublayer; 139.4 M parameters
Data     your own text, as configs/text.py takes it; 50,000 SentencePieces of your text for both sides
Expect   that depends on your text; watch eval/chrf and eval/bleu. Not run here
Time     hours to days on accelerators; flaxformer-lite plan --config=configs/bart.py estimates memory and speed
Train    flaxformer-lite train --config=configs/bart.py --workdir=runs/bart \
             --config.data.text.train=train.src,train.trg --config.data.text.validation=val.src,val.trg
Vary     other sizes: presets.bart below (large)
         the norm before each sublayer: --config.model.encoder.norm.placement=pre
"""

from ml_collections import ConfigDict

from flaxformer_lite.models import presets
from flaxformer_lite.run_cards import text


def get_config() -> ConfigDict:
    """What differs from configs/text.py."""
    return trained(text.of_family(presets.bart("base"), pieces=50_000, longest=256))


def trained(config: ConfigDict) -> ConfigDict:
    """The same, with the optimizer that BART is trained with."""
    config.optim.optimizer = "adamw"
    config.optim.learning_rate = 5e-4
    config.optim.schedule = "inverse_sqrt"
    config.optim.warmup_steps = 4_000
    config.optim.weight_decay = 0.01
    return config
