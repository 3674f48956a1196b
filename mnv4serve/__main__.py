"""The console script, which is `python -m mnv4serve` as well."""

import signal


def run() -> None:
    """Run the command line; Ctrl-C while its modules are still imported ends it without a word."""
    interruptible = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if interruptible:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from mnv4serve.cli import main  # noqa: PLC0415  # takes about a second

    if interruptible:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    main()


if __name__ == "__main__":
    run()
