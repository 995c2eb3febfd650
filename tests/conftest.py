"""What every test process has in common: threads, random draws, a list of features."""

import collections
import gc
import importlib.metadata
import json
import os
import pathlib

import pytest
from hypothesis import settings

# Workers of pytest-xdist, and the processes that their tests start, share the cores
# instead of fighting for all of them. TensorFlow reads these when it is imported.
_workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
_threads = max(1, len(os.sched_getaffinity(0)) // _workers)
for _name in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, str(_threads))
# Without AVX-512 TensorFlow leaves oneDNN out, and with it NCHW convolutions.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

# The same examples in every run: what fails once can be looked at. To look for other
# examples: pytest --hypothesis-profile=default
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")


def pytest_addoption(parser):
    parser.addoption(
        "--features", metavar="FILE", help="write how tests of features went (JSON)"
    )


@pytest.hookimpl(trylast=True)
def pytest_collection_finish():
    # No garbage collection has to look at TensorFlow, Keras and the tests again.
    gc.collect()
    gc.freeze()


_outcomes = collections.defaultdict(collections.Counter)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed or (report.when == "call" and report.passed):
        for marker in item.iter_markers("feature"):
            key = marker.kwargs.get("backend"), *marker.args
            refused = report.passed and marker.kwargs.get("refused")
            _outcomes[key]["refused" if refused else report.outcome] += 1
    return report


def pytest_sessionfinish(session):
    option = session.config.getoption("features")
    if option is None:
        return
    import keras

    path, own = pathlib.Path(option), keras.backend.backend()
    # What was not tested this time stays as it was.
    found = json.loads(path.read_text("utf-8"))["outcomes"] if path.exists() else {}
    for (backend, feature), counts in _outcomes.items():
        found.setdefault(backend or own, {})[feature] = dict(counts)
    versions = {name: importlib.metadata.version(name) for name in (own, "keras")}
    record = {"outcomes": found, "versions": versions}
    text = json.dumps(record, indent=1, sort_keys=True)
    path.write_text(text + "\n", "utf-8")
