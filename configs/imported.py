"""Fine-tuning of an imported model: the settings that `flaxformer-lite import` writes beside architecture and decoding.

Data     your own text: two parallel files for each split, or one .tsv
Train    flaxformer-lite import --source=downloads/t5-small --workdir=runs/t5
         flaxformer-lite train --config=runs/t5/config.json --config.train.init_from=runs/t5 --workdir=runs/mine \
             --config.data.text.train=train.en,train.de --config.data.text.validation=dev.en,dev.de
Vary     learning rate and steps, which are starting values: --config.optim.learning_rate, --config.train.steps
"""

from flaxformer_lite.config import defaults


def get_config():
    """The defaults, with optimizer settings for pretrained weights."""
    config = defaults.get_config()
    config.data.task = "text"
    config.data.source_vocabulary.kind = "saved"
    config.data.target_vocabulary.kind = "saved"
    config.data.max_source_length = 256
    config.data.max_target_length = 256
    config.data.overlength = "truncate"
    config.model.vocab_pad_multiple = 1
    config.optim.learning_rate = 1e-4
    config.optim.schedule = "linear"
    config.optim.warmup_steps = 100
    config.optim.beta2 = 0.999
    config.optim.epsilon = 1e-8
    config.train.steps = 2_000
    config.train.batch_size = 16
    config.train.label_smoothing = 0.0
    config.train.eval_every = 500
    config.train.save_every = 500
    config.eval.metrics = ("exact_match", "bleu", "chrf")
    config.decode.n_best = 1
    return config
