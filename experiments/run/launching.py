"""What every program of the experiments has in common: flags, messages, its end."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import NoReturn

import keras
import tensorflow as tf
from absl import app, flags, logging

STOPPED = 130
"""The exit status of a program that Ctrl-C has stopped."""


def launch(
    main: Callable[[list[str]], None],
    define_flags: Callable[[], None] = lambda: None,
    *,
    arguments: tuple[int, int] = (0, 0),
    resumes: bool = False,
) -> None:
    """Runs a program; what a user can do about an error is all that is printed of it.

    A module that is imported defines no flags, so that many programs fit in one
    process: flags are defined here, and `main` reads them from `flags.FLAGS`.

    Args:
        main: takes what stands on the command line beside flags.
        define_flags: defines the program's flags.
        arguments: how many of the former there may be: at least, at most.
        resumes: whether the same command goes on where a stopped one was.
    """
    define_flags()

    def run(argv: list[str]) -> None:
        # absl parses the flags only then.
        given = argv[1:]
        if not arguments[0] <= len(given) <= arguments[1]:
            shown = " ".join(given) or "nothing"
            _end(f"Expected {_expected(arguments)} beside flags. Received: {shown}")
        _quiet()
        _leave_accelerators()
        try:
            main(given)
        except (ValueError, FileNotFoundError, ImportError) as error:
            logging.debug("The error came from here.", exc_info=True)
            _end(str(error))
        except KeyboardInterrupt:
            way_on = " The same command goes on from here." if resumes else ""
            print(f"Stopped.{way_on}", file=sys.stderr)
            sys.exit(STOPPED)

    app.run(run)


def _expected(arguments: tuple[int, int]) -> str:
    least, most = arguments
    if most == 0:
        return "nothing"
    return f"{least} to {most} arguments" if least < most else f"{most} argument"


def _quiet() -> None:
    """Leaves the terminal to progress and results, unless --verbosity says else."""
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)
        tf.get_logger().setLevel("WARNING")


def _leave_accelerators() -> None:
    """Keeps TensorFlow, which only feeds the other backends, off their devices."""
    if keras.backend.backend() != "tensorflow":
        tf.config.set_visible_devices([], "GPU")


def _end(message: str) -> NoReturn:
    sys.exit(f"Error: {message}\n--help lists the flags; --verbosity=1 says more.")
