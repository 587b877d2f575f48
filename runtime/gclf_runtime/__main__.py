"""The command: gclf-infer, or python -m gclf_runtime."""

import signal


def main() -> None:
    """Run the command; until it has handlers of its own, Ctrl-C ends it without a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    from gclf_runtime import cli

    cli.main()


if __name__ == "__main__":
    main()
