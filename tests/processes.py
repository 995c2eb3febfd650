"""Programs in processes of their own, without importing TensorFlow anew in each."""

import multiprocessing
import os
import pathlib
import runpy
import signal
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[1]
CONTEXT = multiprocessing.get_context("forkserver")
# A server imports them once; a process is a fork of it. What is missing is left out.
CONTEXT.set_forkserver_preload(["pgmpf_tf", "experiments.run.runner"])


class Program:
    """What `python -m` runs, with standard output and error in one text.

    Args:
        module: its name.
        arguments: of the command line.
        environment: variables that the process has besides those of this one.
    """

    def __init__(self, module, *arguments, **environment):
        file, name = tempfile.mkstemp(prefix="pgmpf_tf-program-")
        os.close(file)
        self._output = pathlib.Path(name)
        arguments = [module, *map(str, arguments)]
        self._process = CONTEXT.Process(
            target=_run, args=(arguments, environment, name)
        )
        self._process.start()

    def is_running(self):
        return self._process.is_alive()

    def send_signal(self, number):
        os.kill(self._process.pid, number)

    def finish(self, timeout=300):
        """The exit status, which is `-number` after a signal, and the output."""
        self._process.join(timeout)
        try:
            assert not self.is_running(), f"still running: {self._output.read_text()}"
        finally:
            self._process.kill()
            output = self._output.read_text()
            self._output.unlink()
        return self._process.exitcode, output


def run(module, *arguments, **environment):
    """Runs a program that must end well.

    Returns:
        Its output.
    """
    code, output = Program(module, *arguments, **environment).finish()
    assert code == 0, output
    return output


def _run(arguments, environment, output):
    for stream in (1, 2):
        os.dup2(os.open(output, os.O_WRONLY | os.O_APPEND), stream)
    # Where the tests run in the background, Ctrl-C is ignored: not so in here.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.update(environment)
    os.chdir(ROOT)
    sys.argv = arguments
    runpy.run_module(arguments[0], run_name="__main__", alter_sys=True)
