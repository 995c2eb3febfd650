"""kill -9 at any moment: what carries the name of an artifact is whole."""

import random
import signal
import time

import numpy as np

from pgmpf_tf.exporting.formats.registry import FORMATS as KNOWN
from tests.exporting.killed import FORMATS, export_over
from tests.exporting.networks import convnet, images
from tests.processes import CONTEXT

KILLS = 20
NAMES = {"saved_model": "saved_model", "tflite": "model.tflite", "keras": "model.keras"}


def start(directory, classes):
    ready = CONTEXT.Event()
    process = CONTEXT.Process(target=export_over, args=(directory, classes, ready))
    process.start()
    assert ready.wait(timeout=120)
    return process


def visible(directory):
    return {path.name for path in directory.iterdir() if path.name[0] != "."}


def test_what_is_there_is_whole(tmp_path):
    durations = []
    for _ in range(2):  # the first one waits for the server
        process = start(tmp_path, 4)
        begin = time.perf_counter()
        process.join(timeout=120)
        durations.append(time.perf_counter() - begin)
        assert process.exitcode == 0
    data = images(4)
    wanted = {classes: convnet(classes=classes)(data).numpy() for classes in (3, 4)}
    moments = random.Random(0)
    killed = 0
    for attempt in range(KILLS):
        process = start(tmp_path, (3, 4)[attempt % 2])
        process.join(timeout=moments.uniform(0, durations[-1]))
        process.kill()
        process.join()
        killed += process.exitcode == -signal.SIGKILL
        assert visible(tmp_path) <= set(NAMES.values())
        for kind in FORMATS:
            path = tmp_path / NAMES[kind]
            if path.exists():
                (scores,) = KNOWN[kind].load(path)({"image": data}).values()
                expected = wanted[scores.shape[-1]]
                np.testing.assert_allclose(scores, expected, rtol=1e-4, atol=1e-5)
    assert killed > KILLS // 4
    process = start(tmp_path, 3)
    process.join(timeout=120)
    assert visible(tmp_path) == set(NAMES.values())
