"""What every test process has in common: threads, and fixed random draws."""

import os

from hypothesis import settings

# Workers of pytest-xdist, and the processes that their tests start, share the cores
# instead of fighting for all of them. TensorFlow reads these when it is imported.
_workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", 1))
_threads = max(1, len(os.sched_getaffinity(0)) // _workers)
for _name in ("TF_NUM_INTRAOP_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, str(_threads))

# The same examples in every run: what fails once can be looked at. To look for other
# examples: pytest --hypothesis-profile=default
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.load_profile("fixed")
