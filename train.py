"""``python train.py …`` is ``flaxformer-lite train …``."""

import sys

from flaxformer_lite.cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
