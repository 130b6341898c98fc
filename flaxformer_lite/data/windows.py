"""Windows: long texts in pieces that are short enough to train on."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool

from flaxformer_lite.data.ragged import Ragged


def split_windows(texts: Ragged, longest: int, overlap: int, ends_window: Bool[np.ndarray, " tokens"]) -> Ragged:
    """Splits texts into windows that together contain every token.

    Args:
      texts: the texts.
      longest: tokens of a window at most.
      overlap: tokens that a window repeats of the one before, less than ``longest``.
      ends_window: whether a window may end after each token, such as those that end sentences. Where no such token is
        within reach, a window has ``longest`` tokens.

    Example:
      ``1 2 3 4 5 6 7`` in windows of at most 4 tokens that overlap by 1 are ``1 2 3 4`` and ``4 5 6 7``; without
      overlap and with ends after 2 and 5, they are ``1 2``, ``3 4 5`` and ``6 7``.
    """
    is_long = texts.lengths > longest
    if not is_long.any():
        return texts
    starts, lengths = [], []
    ends = np.flatnonzero(ends_window) + 1
    for start, stop in zip(texts.offsets[:-1].tolist(), texts.offsets[1:].tolist(), strict=True):
        while stop - start > longest:
            reach = start + longest
            end = int(ends[np.searchsorted(ends, reach, side="right") - 1]) if len(ends) and ends[0] <= reach else 0
            end = end if end > start + overlap else reach
            starts.append(start)
            lengths.append(end - start)
            start = end - overlap
        starts.append(start)
        lengths.append(stop - start)
    return texts.slices(np.array(starts), np.array(lengths))
