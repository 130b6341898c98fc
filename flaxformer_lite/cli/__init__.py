"""The commands of ``flaxformer-lite``, one module each."""
