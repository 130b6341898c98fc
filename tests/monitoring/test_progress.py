import pytest

from flaxformer_lite.monitoring.progress import format_progress


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            (1200, 10_000, 1.2341, 1e-3, 15_312.0, 700.0),
            "step  1,200/10,000  loss 1.234  rate 1.0e-03  15,300 tokens/s  12 min left",
        ),
        ((7, 9, 12.0, 2.5e-5, 431.2, 89.4), "step 7/9  loss 12.000  rate 2.5e-05  431 tokens/s  89 s left"),
        (
            (1, 999_999, 0.5, 0.0, 1_234_567.0, 12_000.0),
            "step       1/999,999  loss 0.500  rate 0.0e+00  1,230,000 tokens/s  3 h 20 min left",
        ),
    ],
)
def test_progress_line(arguments, line):
    assert format_progress(*arguments) == line
