"""Which of several kinds of device answers which budget, and why; `python -m` runs it."""
