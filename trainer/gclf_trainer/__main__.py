"""The command: gclf-train, or python -m gclf_trainer."""

import signal


def main() -> None:
    """Run the command; until it has handlers of its own, Ctrl-C ends it without a traceback."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # torch takes seconds to import
    from gclf_trainer import cli

    cli.main()


if __name__ == "__main__":
    main()
