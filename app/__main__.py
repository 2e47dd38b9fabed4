"""`python -m app`: the same as the console script htp-fluid."""

import sys

OURS = ("app", "precond", "sim")


def _run() -> int:
    """The exit code; one line and 2 where a package that the program needs is not installed."""
    try:
        from app.cli import main

        return main()
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if not missing or missing in OURS:
            raise
        print(
            f"htp-fluid: {missing} is not installed for {sys.executable}: run `make venv` and use "
            "`.venv/bin/python -m app`, or run `pip install .`",
            file=sys.stderr,
        )
        return 2


if __name__ == "__main__":
    sys.exit(_run())
