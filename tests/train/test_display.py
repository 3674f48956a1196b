"""Tests of what the progress bar says."""

from io import StringIO

from rich.console import Console

from mnv4serve.train.display import ProgressBar, detail
from mnv4serve.train.loop import Report


def test_detail_tells_speed_loss_accuracy_and_time_left() -> None:
    """Everything known so far, in one line."""
    report = Report("epoch 2/5", 0.3, 3725, 412.3, 1.2345, 0.815)

    assert detail(report) == "412 pictures/s, loss 1.234, dev 81.5%, 1:02:05 left"


def test_unknown_time_left_is_a_question_mark() -> None:
    """Before the first step is measured there is no estimate."""
    assert detail(Report("decoding", 0, float("inf"), 0)) == "0 pictures/s, ? left"


def test_bar_shows_the_stage() -> None:
    """The bar is a progress callable."""
    out = StringIO()

    with ProgressBar(Console(file=out, width=120, force_terminal=True)) as bar:
        bar(Report("epoch 2/5", 0.3, 60, 400, 1.2))

    assert "epoch 2/5" in out.getvalue()
    assert "30%" in out.getvalue()


def test_a_log_gets_a_line_at_the_end_of_each_stage() -> None:
    """Hours of training into a file are followed there, and the file stays short."""
    out = StringIO()

    with ProgressBar(Console(file=out, width=60)) as bar:
        bar(Report("decoding", 1.0, 0, 900))
        bar(Report("epoch 1/2", 0.2, 80, 400, 2.2))
        bar(Report("epoch 1/2", 0.5, 60, 410, 1.5))
        bar(Report("epoch 2/2", 1.0, 0, 420, 1.2, 0.81))

    assert out.getvalue().splitlines() == [
        "decoding: 900 pictures/s, 0:00:00 left",
        "epoch 1/2: 410 pictures/s, loss 1.500, 0:01:00 left",
        "epoch 2/2: 420 pictures/s, loss 1.200, dev 81.0%, 0:00:00 left",
    ]
