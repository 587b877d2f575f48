"""The command: gclf-export, or python -m gclf_export."""

import os
import signal
from typing import NoReturn


def main() -> None:
    """Run the command; until it has handlers of its own, a signal ends it without a word."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    from gclf_export import cli

    cli.main()


def _leave(number: int, _frame: object) -> NoReturn:
    os._exit(128 + number)


if __name__ == "__main__":
    main()
