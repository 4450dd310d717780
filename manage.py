#!/usr/bin/env python
"""The command line of the backoffice."""

import os
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "backoffice.settings")
    from django.core.management import execute_from_command_line  # noqa: PLC0415 - settings first

    try:
        execute_from_command_line(sys.argv)
    except Exception as error:
        from backoffice import command_errors  # noqa: PLC0415 - only needed after a failure

        line = command_errors.explanation(error)
        if line is None or os.environ.get("LOG_LEVEL", "").upper() == "DEBUG":
            raise
        sys.exit(line)


if __name__ == "__main__":
    main()
