"""README's five lines, word for word, on networks that are trained: what is left.

    python -m experiments.studies.five_lines --tfds_dir=../shared/tensorflow_datasets
    KERAS_BACKEND=jax python -m experiments.studies.five_lines --data=digits

On digits a ResNet-8, on 5,000 images of CIFAR-10 at 16x16 a ResNet-20. Beside the small
network stands the dense one that trained as many epochs more, with the same optimizer,
from the same weights: the same cost, and more. Each run is a file; what is there is not
done again.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import keras
import rich
import tensorflow as tf
from absl import flags

from experiments.networks import models
from experiments.run import evaluation
from experiments.run.launching import launch
from experiments.studies import defaults
from pgmpf_tf._files import write_text

README = Path(__file__).parents[2] / "README.md"

NETWORKS = {
    defaults.SOURCES["digits"]: "resnet8",
    defaults.Source("cifar10", 5000, 2000, None, 16): "resnet20",
}
BACKENDS = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
BATCH_SIZE = 32
LOSS = "sparse_categorical_crossentropy"


def five_lines() -> str:
    """README's first program."""
    found = re.search(r"```python\n(.*?)```", README.read_text("utf-8"), re.DOTALL)
    assert found is not None, "README has no program"
    return found[1]


def trained(
    kind: str, arrays: dict[str, defaults.Arrays], epochs: int, seed: int
) -> keras.Model:
    """The network that a user has: it gives probabilities."""
    keras.utils.set_random_seed(seed)
    x, y = arrays["train"]
    logits = models.build(kind, input_shape=x.shape[1:], num_classes=10)
    model = keras.Model(logits.inputs, keras.layers.Softmax()(logits.outputs[0]))
    rate = keras.optimizers.schedules.CosineDecay(0.1, epochs * -(-len(x) // 128))
    sgd = keras.optimizers.SGD(rate, momentum=0.9, nesterov=True)
    model.compile(sgd, LOSS, metrics=["accuracy"])
    model.fit(x, y, 128, epochs=epochs, verbose=0)
    return model


def measure(
    source: defaults.Source, kind: str, tfds_dir: str | None, seed: int
) -> dict[str, Any]:
    """Accuracies on the test images: before, of the small network, and without pruning.

    Args:
        source: the images.
        kind: the network.
        tfds_dir: where tensorflow-datasets keeps prepared data.
        seed: of the network and the order of the images.
    """
    arrays = defaults.load(source, tfds_dir)
    train = tf.data.Dataset.from_tensor_slices(arrays["train"])
    train = train.shuffle(len(arrays["train"][0]), seed).batch(BATCH_SIZE)
    val = tf.data.Dataset.from_tensor_slices(arrays["held_out"]).batch(BATCH_SIZE)
    model = trained(kind, arrays, defaults.DENSE_EPOCHS, seed)
    before = defaults.accuracy(model, arrays["test"])
    dense = keras.models.clone_model(model)
    dense.set_weights(model.get_weights())
    program = five_lines()
    with tempfile.TemporaryDirectory() as folder:
        program = program.replace('"artifacts/"', repr(f"{folder}/artifacts"))
        names = {"keras_model": model, "train": train, "val": val}
        exec(compile(program, str(README), "exec"), names)
    pruned, small = names["model"], names["small"]
    small.compile(loss=LOSS, metrics=["accuracy"])
    optimizer = type(pruned.optimizer).from_config(pruned.optimizer.get_config())
    dense.compile(optimizer, LOSS, metrics=["accuracy"])
    dense.fit(train, epochs=len(pruned.history.epoch), verbose=0)
    return {
        "data": source.name,
        "network": kind,
        "seed": seed,
        "dense": before,
        "dense_trained_on": defaults.accuracy(dense, arrays["test"]),
        "small": defaults.accuracy(small, arrays["test"]),
        "parameters": [model.count_params(), small.count_params()],
    }


def markdown(records: list[dict[str, Any]]) -> str:
    """The runs as a table."""
    lines = [
        f"# README's five lines on {BACKENDS[keras.backend.backend()]}",
        "",
        "Accuracy on test images in %: of the trained network, of the small one after "
        "README's program, and of the dense one trained for as many epochs more "
        "(`python -m experiments.studies.five_lines`).",
        "",
        "| data | network | seed | dense | small | dense, trained on | parameters |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for record in records:
        dense, small, on = (
            f"{100 * record[name]:.2f}"
            for name in ("dense", "small", "dense_trained_on")
        )
        parameters = " to ".join(f"{count:,}" for count in record["parameters"])
        lines.append(
            f"| {record['data']} | {record['network']} | {record['seed']} | {dense} | "
            f"{small} | {on} | {parameters} |"
        )
    return "\n".join(lines) + "\n"


def define_flags() -> None:
    """What to run, and where to write."""
    names = [source.name for source in NETWORKS]
    flags.DEFINE_multi_enum("data", names, names, "Which images.")
    flags.DEFINE_integer("seeds", 3, "How many seeds.", lower_bound=1)
    flags.DEFINE_string("runs_dir", "runs/five_lines", "Folder of the runs.")
    flags.DEFINE_string("output", "experiments/results", "Where to write.")
    flags.DEFINE_string("tfds_dir", None, "Where prepared CIFAR-10 is.")


def main(_: list[str]) -> None:
    """Runs all, and writes the table."""
    given, backend = flags.FLAGS, keras.backend.backend()
    name = "five_lines" if backend == "tensorflow" else f"five_lines_{backend}"
    folder = Path(given.runs_dir) / backend
    records = []
    for source, kind in NETWORKS.items():
        for seed in range(given.seeds if source.name in given.data else 0):
            path = folder / f"{source.name}-{seed}.json"
            if not path.is_file():
                record = measure(source, kind, given.tfds_dir, seed)
                write_text(path, json.dumps(record) + "\n")
                rich.print(record)
                keras.utils.clear_session()
            records.append(json.loads(path.read_text("utf-8")))
    content = {"runs": records}
    evaluation.write_results(given.output, name, markdown(records), content)


if __name__ == "__main__":
    launch(main, define_flags, resumes=True)
