"""The data sets of the experiments, as tf.data pipelines that can be resumed.

Every random choice of a pipeline (order, crops, flips) follows from the seed, the
epoch and the image's number, so training that starts at epoch 7 sees what an
uninterrupted one sees from there.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf

from experiments.data import sources
from experiments.data.preprocessing import PREPROCESSING, Preprocessing

# Examples that the shuffle buffer holds of a set that is read from files, image by
# image; of a set in memory it holds all.
STREAMED_SHUFFLE_BUFFER = 8_192


@dataclass(frozen=True)
class Data:
    """Images with labels to train on, to choose by and to test on.

    Attributes:
        name: the data set's name.
        preprocessing: how images are transformed.
        num_classes: number of classes.
        train: raw training examples `(image, label)` in a fixed order; an image is an
            array of pixels, or the content of its file.
        validation: raw examples to watch training with, and for every choice.
        test: raw examples for what is said in the end.
    """

    name: str
    preprocessing: Preprocessing
    num_classes: int
    train: tf.data.Dataset
    validation: tf.data.Dataset
    test: tf.data.Dataset

    @property
    def train_size(self) -> int:
        """Number of training examples."""
        return int(self.train.cardinality())

    @property
    def test_size(self) -> int:
        """Number of test examples."""
        return int(self.test.cardinality())

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the network's input."""
        size = self.preprocessing.input_size
        return (size, size, len(self.preprocessing.mean))

    def steps(self, batch_size: int) -> int:
        """Batches in one epoch of training, the last one perhaps smaller."""
        return -(-self.train_size // batch_size)

    def train_batches(
        self, batch_size: int, *, seed: int, epochs: int, first_epoch: int = 0
    ) -> tf.data.Dataset:
        """Shuffled and augmented batches of the epochs `first_epoch .. epochs - 1`.

        Args:
            batch_size: images per batch.
            seed: fixes order and augmentation.
            epochs: the epoch to stop before.
            first_epoch: the epoch to start at.

        Returns:
            Batches `(images, labels)`, one epoch after another: `steps(batch_size)`
            batches each.
        """
        streamed = self.train.element_spec[0].dtype == tf.string
        buffer = STREAMED_SHUFFLE_BUFFER if streamed else self.train_size

        def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
            # Of this function's graph only: or else the global seed decides as well.
            tf.random.set_seed(1)
            epoch_seed = tf.random.fold_in((0, seed), tf.cast(epoch, tf.int32))
            order = tf.random.stateless_uniform([], epoch_seed, None, None, tf.int64)

            def prepare(
                index: tf.Tensor, example: tuple[tf.Tensor, tf.Tensor]
            ) -> tuple[tf.Tensor, tf.Tensor]:
                image, label = example
                image_seed = tf.random.fold_in(epoch_seed, tf.cast(index, tf.int32))
                return self.preprocessing.train_image(image, image_seed), label

            return (
                self.train.enumerate()
                .shuffle(buffer, seed=order)
                .map(prepare, tf.data.AUTOTUNE, deterministic=True)
                .batch(batch_size)
            )

        batches = tf.data.Dataset.range(first_epoch, epochs).flat_map(one_epoch)
        return _sharded_by_example(batches).prefetch(tf.data.AUTOTUNE)

    def validation_batches(self, batch_size: int) -> tf.data.Dataset:
        """The validation images in order, without augmentation."""
        return self._in_order(self.validation, batch_size)

    def test_batches(self, batch_size: int) -> tf.data.Dataset:
        """The test images in order, without augmentation."""
        return self._in_order(self.test, batch_size)

    def arrays(
        self, examples: tf.data.Dataset, batch_size: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """All of some examples as the network is tested on them, and their labels."""
        batches = self._in_order(examples, batch_size).as_numpy_iterator()
        images, labels = zip(*batches, strict=True)
        return np.concatenate(images), np.concatenate(labels)

    def _in_order(self, examples: tf.data.Dataset, batch_size: int) -> tf.data.Dataset:
        def prepare(image: tf.Tensor, label: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return self.preprocessing.test_image(image), label

        batches = examples.map(prepare, tf.data.AUTOTUNE).batch(batch_size)
        return _sharded_by_example(batches).prefetch(tf.data.AUTOTUNE)


def load(
    name: str,
    *,
    data_dir: str | None = None,
    tfds_dir: str | None = None,
    train_examples: int | None = None,
    held_out: int | None = 0,
    input_size: int | None = None,
) -> Data:
    """Loads a data set; prepares or downloads it first where that is needed.

    Args:
        name: a key of `PREPROCESSING`.
        data_dir: the folder with the original files: the four gzip files of
            `fashion_mnist` (by default Debian's package is looked for), the archive of
            `cifar10` or `cifar100`, the tar files of `imagenet2012`; for `folder` a
            directory `train/CLASS/*.jpg`, `test/CLASS/*.jpg`.
        tfds_dir: where tensorflow-datasets keeps prepared data; its own default.
        train_examples: use only the first so many of the images to train on.
        held_out: how many training images, evenly spread over the set, are taken out
            to validate on; None for a tenth. With 0 the test images are validated on.
        input_size: edge of the network's input; the data set's own by default.

    Returns:
        The data set.

    Raises:
        ValueError: if an argument is out of range.
        FileNotFoundError: if `data_dir` lacks the files.
    """
    if name not in PREPROCESSING:
        raise ValueError(
            f"`name` must be one of {', '.join(PREPROCESSING)}. Received: name={name!r}"
        )
    if input_size is not None and input_size < 1:
        raise ValueError(
            f"`input_size` must be positive. Received: input_size={input_size}"
        )
    if data_dir is not None and not Path(data_dir).is_dir():
        raise FileNotFoundError(
            f"`data_dir` must be an existing folder. Received: data_dir={data_dir!r}"
        )
    if name == "digits":
        train, test, classes = sources.digits()
    else:
        builder = sources.builder(name, data_dir, tfds_dir)
        train, test, classes = sources.examples(builder)
    total = int(train.cardinality())
    if held_out is None:
        held_out = total // 10
    if not 0 <= held_out < total:
        raise ValueError(
            f"`held_out` must be in 0..{total - 1} for {name}. Received: "
            f"held_out={held_out}"
        )
    validation = test
    if held_out:
        train, validation = _part(train, held_out, False), _part(train, held_out, True)
    if train_examples is not None:
        if not 1 <= train_examples <= total - held_out:
            raise ValueError(
                f"`train_examples` must be in 1..{total - held_out} for {name}. "
                f"Received: train_examples={train_examples}"
            )
        train = train.take(train_examples)
    preprocessing = PREPROCESSING[name]
    if input_size is not None:
        preprocessing = preprocessing.resized(input_size)
    return Data(name, preprocessing, classes, train, validation, test)


def _part(examples: tf.data.Dataset, held_out: int, wanted: bool) -> tf.data.Dataset:
    """The examples that are held out, every so-many-th one, or the others."""
    total = int(examples.cardinality())

    def chosen(index: tf.Tensor, _: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        is_held_out = (index + 1) * held_out // total > index * held_out // total
        return is_held_out == wanted

    part = examples.enumerate().filter(chosen).map(lambda _, example: example)
    count = held_out if wanted else total - held_out
    in_memory = examples.element_spec[0].dtype != tf.string
    return sources.held(part, count, in_memory=in_memory)


def _sharded_by_example(batches: tf.data.Dataset) -> tf.data.Dataset:
    """Workers take turns at the batches: there are no files to share out."""
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    return batches.with_options(options)
