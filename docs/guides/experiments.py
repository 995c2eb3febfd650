# %% [markdown]
# # Experiments
#
# `experiments/` in the repository trains, prunes, compares and measures from the
# command line, so that every figure can be had again. This page runs in a clone, with
# `pip install --editable ".[experiments]"`; its settings are as small as they can be.

# %%
import json
import subprocess
import sys
from pathlib import Path

import pgmpf_tf

CLONE = Path(pgmpf_tf.__file__).parents[1]
RUNS = Path("runs").absolute()


def python(command):
    done = subprocess.run(
        [sys.executable, *command.split()],
        cwd=CLONE,
        check=True,
        capture_output=True,
        text=True,
    )
    print(done.stdout)


# %% [markdown]
# ## One run
#
# Trains a network, prunes it while it is fine-tuned, compacts, exports and tests it.
# `--recipe` names a set of defaults: `quick` for small data on a CPU, `cifar`,
# `imagenet` and `imagenet_pretrained` for the hyper-parameters of the paper; `--help`
# explains every flag. `--coupling=independent` prunes layer by layer, as the paper
# does, and `--budget=macs=0.5` takes the place of `--rate`.

# %%
run = (
    "-m experiments.train --dataset=digits --model=resnet8 --rate=0.5 "
    f"--dense_epochs=3 --epochs=3 --output_dir={RUNS / 'one'}"
)
python(run)

# %% [markdown]
# A run is one folder. The same command goes on where a killed run stopped, with the
# same outcome; of a finished run it prints the result again. `report.html` shows what
# happened.

# %%
print(*sorted(path.name for path in (RUNS / "one").iterdir()), sep="\n")

# %% [markdown]
# Data sets: `digits` (inside scikit-learn), `fashion_mnist` (from Debian's package
# `dataset-fashion-mnist`, from files in `--data_dir`, or by download) and those of
# tensorflow-datasets that the flag's help names. `--strategy=mirrored` and
# `--strategy=multi_worker` train on several devices or machines.
#
# With `KERAS_BACKEND=jax` or `torch` before it the same command trains on JAX or
# PyTorch; TensorFlow then feeds the images and writes the files. On JAX with an
# accelerator, `--on_device` keeps the images in its memory and augments them there:
#
# ```sh
# KERAS_BACKEND=jax python -m experiments.train --recipe=cifar --model=resnet20 \
#     --on_device --precision=mixed_bfloat16 --output_dir=runs/cifar
# ```
#
# ## A sweep
#
# Methods x rates x seeds, each from its seed's dense network. Sweeps of the repository
# are in `experiments/sweeps`.

# %%
sweep = {
    "settings": {
        "dataset": "digits",
        "model": "resnet8",
        "epochs": 2,
        "formats": [],
    },
    "baseline": {"dense_epochs": 3},
    "variants": {"pgmpf": {"method": "pgmpf"}, "hard": {"method": "hard"}},
    "rates": [0.5],
    "seeds": [0],
}
RUNS.joinpath("sweep.json").write_text(json.dumps(sweep))
python(f"-m experiments.sweep {RUNS / 'sweep.json'} --output_dir={RUNS / 'sweep'}")

# %% [markdown]
# `tables` makes a table, figures and a summary of it: mean and deviation over seeds,
# and differences paired by seed.

# %%
python(f"-m experiments.tables {RUNS / 'sweep'} --results_dir={RUNS}")
print((RUNS / "sweep.md").read_text())

# %% [markdown]
# ## Measurements
#
# Each file in `experiments/results` says which command wrote it:
#
# - `python -m experiments.studies.flops_table`: multiply-accumulates that really go,
#   beside the published figures.
# - `python -m experiments.studies.architectures`: every architecture of
#   `keras.applications`, for [what works on what](../support.md).
# - `python -m experiments.studies.one_shot`: pruning without training, by criterion and
#   strategy.
# - `python -m experiments.studies.ladder`: the networks of a run at every precision.
# - `python -m experiments.studies.unstructured`: the same network with as many zeros by
#   tensorflow-model-optimization.
# - `python -m experiments.benchmarks.latency`, `step_overhead`, `compaction`, `budget`,
#   `input_pipeline`: what things cost.
