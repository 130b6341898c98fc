"""What `flaxformer-lite import` writes into a work folder beside the model and its search: settings to train it on.

Fine-tune an imported model on your own text (two parallel files a split, or one .tsv) into a folder of its own:

    flaxformer-lite import --source=downloads/t5-small --workdir=runs/t5
    flaxformer-lite train --config=runs/t5/config.json --config.train.init_from=runs/t5 --workdir=runs/mine \
      --config.data.text.train=train.en,train.de --config.data.text.validation=dev.en,dev.de

The learning rate and the number of steps are a beginning, not a recipe; see --config.optim and --config.train.
"""

from flaxformer_lite.config import defaults


def get_config():
    """Base, and what suits weights that are trained already."""
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
