"""The data sets of the experiments, as tf.data pipelines that can be resumed.

Every random choice of a pipeline (order, crops, flips) follows from the seed, the
epoch and the image's number, so training that starts at epoch 7 sees what an
uninterrupted one sees from there.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds

from experiments.data import augmentation

FASHION_MNIST_DIR = Path("/usr/share/datasets/fashion-mnist")
FASHION_MNIST_FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}
# Examples that the shuffle buffer holds of a set that is read from files, image by
# image; of a set in memory it holds all.
STREAMED_SHUFFLE_BUFFER = 8_192


@dataclass(frozen=True)
class Recipe:
    """How the images of a data set become a network's input.

    Attributes:
        mean: mean of each channel over the training pixels, in the pixels' units.
        std: standard deviation of each channel, likewise.
        padding: random crops are taken out of the image padded by so many zeros.
        flip: whether images are mirrored at random.
        cutout: edge in pixels of the square set to zero; 0 for none.
        resized_crop: whether images have no common size: random resized crops for
            training, resize and centre crop for testing.
        input_size: edge of the network's input in pixels.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    input_size: int
    padding: int = 0
    flip: bool = False
    cutout: int = 0
    resized_crop: bool = False

    def train_image(self, image: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """One augmented image; equal seeds give equal results."""
        image = self._pixels(image)
        seeds = tf.random.split(seed, 3)
        if self.resized_crop:
            image = augmentation.random_resized_crop(image, seeds[0], self.input_size)
        image = self._normalise(self._resize(image))
        if self.padding:
            image = augmentation.crop_with_padding(image, seeds[0], self.padding)
        if self.flip:
            image = tf.image.stateless_random_flip_left_right(image, seeds[1])
        if self.cutout:
            image = augmentation.cutout(image, seeds[2], self.cutout)
        return self._with_shape(image)

    def test_image(self, image: tf.Tensor) -> tf.Tensor:
        """One image as the network is tested on it."""
        image = self._pixels(image)
        if self.resized_crop:
            image = augmentation.resize_and_centre_crop(image, self.input_size)
        return self._with_shape(self._normalise(self._resize(image)))

    def _pixels(self, image):
        if image.dtype == tf.string:
            image = tf.io.decode_image(image, len(self.mean), expand_animations=False)
        return tf.cast(image, tf.float32)

    def _resize(self, image):
        if image.shape[:2] != (self.input_size, self.input_size):
            image = tf.image.resize(image, (self.input_size, self.input_size))
        return image

    def _normalise(self, image):
        return (image - tf.constant(self.mean)) / tf.constant(self.std)

    def _with_shape(self, image):
        return tf.ensure_shape(
            image, (self.input_size, self.input_size, len(self.mean))
        )


_IMAGENET_PIXELS = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
RECIPES = {
    "digits": Recipe((4.88,), (6.02,), 8),
    "fashion_mnist": Recipe((72.94,), (90.02,), 28, padding=2, flip=True),
    "cifar10": Recipe(
        (125.3, 123.0, 113.9), (63.0, 62.1, 66.7), 32, padding=4, flip=True, cutout=12
    ),
    "cifar100": Recipe(
        (129.3, 124.1, 112.4), (68.2, 65.4, 70.4), 32, padding=4, flip=True, cutout=6
    ),
    "imagenet2012": Recipe(
        **_IMAGENET_PIXELS, input_size=224, flip=True, resized_crop=True
    ),
    "folder": Recipe(**_IMAGENET_PIXELS, input_size=224, flip=True, resized_crop=True),
}


@dataclass(frozen=True)
class Data:
    """Training and test images with labels, ready to be batched.

    Attributes:
        name: the data set's name.
        recipe: how images are transformed.
        num_classes: number of classes.
        train: raw training examples `(image, label)` in a fixed order; an image is an
            array of pixels, or the content of its file.
        test: raw test examples, likewise.
        train_size: number of training examples.
        test_size: number of test examples.
    """

    name: str
    recipe: Recipe
    num_classes: int
    train: tf.data.Dataset
    test: tf.data.Dataset
    train_size: int
    test_size: int

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of the network's input."""
        size = self.recipe.input_size
        return (size, size, len(self.recipe.mean))

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

        def one_epoch(epoch):
            # Of this function's graph only: or else the global seed decides as well.
            tf.random.set_seed(1)
            epoch_seed = tf.random.fold_in((0, seed), tf.cast(epoch, tf.int32))
            order = tf.random.stateless_uniform([], epoch_seed, None, None, tf.int64)

            def prepare(index, example):
                image, label = example
                image_seed = tf.random.fold_in(epoch_seed, tf.cast(index, tf.int32))
                return self.recipe.train_image(image, image_seed), label

            return (
                self.train.enumerate()
                .shuffle(buffer, seed=order)
                .map(prepare, tf.data.AUTOTUNE, deterministic=True)
                .batch(batch_size)
            )

        batches = tf.data.Dataset.range(first_epoch, epochs).flat_map(one_epoch)
        return _sharded_by_example(batches).prefetch(tf.data.AUTOTUNE)

    def test_batches(self, batch_size: int) -> tf.data.Dataset:
        """The test images in order, without augmentation."""

        def prepare(image, label):
            return self.recipe.test_image(image), label

        batches = self.test.map(prepare, tf.data.AUTOTUNE).batch(batch_size)
        return _sharded_by_example(batches).prefetch(tf.data.AUTOTUNE)


def load(
    name: str,
    *,
    data_dir: str | None = None,
    tfds_dir: str | None = None,
    train_examples: int | None = None,
    input_size: int | None = None,
) -> Data:
    """Loads a data set; prepares or downloads it first where that is needed.

    Args:
        name: a key of `RECIPES`.
        data_dir: the folder with the original files: the four gzip files of
            `fashion_mnist` (by default Debian's package is looked for), the archive of
            `cifar10` or `cifar100`, the tar files of `imagenet2012`; for `folder` a
            directory `train/CLASS/*.jpg`, `test/CLASS/*.jpg`.
        tfds_dir: where tensorflow-datasets keeps prepared data; its own default.
        train_examples: use only the first so many training images.
        input_size: edge of the network's input; the data set's own by default.

    Returns:
        The data set.

    Raises:
        ValueError: if an argument is out of range.
        FileNotFoundError: if `data_dir` lacks the files.
    """
    if name not in RECIPES:
        raise ValueError(
            f"Unknown data set. Known: {', '.join(RECIPES)}. Received: name={name!r}"
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
        train, test, classes = _digits()
    else:
        train, test, classes = _from_builder(_builder(name, data_dir, tfds_dir))
    train_size, test_size = int(train.cardinality()), int(test.cardinality())
    if train_examples is not None:
        if not 1 <= train_examples <= train_size:
            raise ValueError(
                f"`train_examples` must be in 1..{train_size} for {name}. Received: "
                f"train_examples={train_examples}"
            )
        train, train_size = train.take(train_examples), train_examples
    recipe = RECIPES[name]
    if input_size is not None:
        recipe = Recipe(**(vars(recipe) | {"input_size": input_size}))
    return Data(name, recipe, classes, train, test, train_size, test_size)


def read_idx(path: Path) -> np.ndarray:
    """Reads a gzip file in the IDX format of MNIST.

    Args:
        path: the `.gz` file.

    Returns:
        uint8 array of the shape that the file states.

    Raises:
        ValueError: if the file is not in that format, or is shorter than it says.
    """
    try:
        content = gzip.decompress(path.read_bytes())
    except (gzip.BadGzipFile, EOFError) as error:
        raise ValueError(f"{path} is not a whole gzip file: {error}") from error
    if len(content) < 4 or content[:3] != b"\x00\x00\x08":
        raise ValueError(f"{path} is not an IDX file of bytes.")
    rank = content[3]
    shape = np.frombuffer(content, ">u4", count=rank, offset=4).astype(int)
    values = np.frombuffer(content, np.uint8, offset=4 + 4 * rank)
    if values.size != shape.prod():
        raise ValueError(f"{path} states shape {shape}, but holds {values.size} bytes.")
    return values.reshape(shape)


def _digits():
    """scikit-learn's 1,797 digits: 1,347 to train on, 450 to test on, stratified."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    digits = load_digits()
    images = digits.images[..., None].astype("float32")
    split = train_test_split(
        images, digits.target, test_size=450, random_state=0, stratify=digits.target
    )
    train_x, test_x, train_y, test_y = split
    train = tf.data.Dataset.from_tensor_slices((train_x, train_y))
    return train, tf.data.Dataset.from_tensor_slices((test_x, test_y)), 10


def _builder(name, data_dir, tfds_dir):
    """The prepared tensorflow-datasets builder of a data set."""
    if name == "folder":
        if data_dir is None:
            raise ValueError("`data_dir` must be given for the data set 'folder'.")
        return tfds.ImageFolder(data_dir)
    if name == "fashion_mnist" and (data_dir or FASHION_MNIST_DIR.is_dir()):
        return _fashion_mnist_from_files(Path(data_dir or FASHION_MNIST_DIR), tfds_dir)
    builder = tfds.builder(name, data_dir=tfds_dir)
    builder.download_and_prepare(
        download_config=tfds.download.DownloadConfig(manual_dir=data_dir)
    )
    return builder


def _fashion_mnist_from_files(folder, tfds_dir):
    """Prepares Fashion-MNIST from its four gzip files, once per content."""
    paths = {
        split: [folder / file for file in files]
        for split, files in FASHION_MNIST_FILES.items()
    }
    missing = [str(p) for pair in paths.values() for p in pair if not p.is_file()]
    if missing:
        raise FileNotFoundError(f"Fashion-MNIST lacks {', '.join(missing)}")
    digest = hashlib.sha256()
    for pair in paths.values():
        for path in pair:
            digest.update(path.read_bytes())
    config = f"files_{digest.hexdigest()[:12]}"
    try:
        return tfds.builder(f"fashion_mnist_files/{config}", data_dir=tfds_dir)
    except tfds.core.DatasetNotFoundError:
        pass
    return tfds.dataset_builders.store_as_tfds_dataset(
        name="fashion_mnist_files",
        config=config,
        version="1.0.0",
        data_dir=tfds_dir,
        features=tfds.features.FeaturesDict(
            {
                "image": tfds.features.Image(shape=(28, 28, 1)),
                "label": tfds.features.ClassLabel(num_classes=10),
            }
        ),
        split_datasets={split: _idx_examples(*pair) for split, pair in paths.items()},
        # The files' own order, so that a subset is the files' first images.
        disable_shuffling=True,
    )


def _idx_examples(image_path, label_path):
    images, labels = read_idx(image_path), read_idx(label_path)
    if images.shape != (len(labels), 28, 28):
        raise ValueError(
            f"{image_path} must hold {len(labels)} images of 28x28 pixels, as many as "
            f"{label_path} has labels. It holds shape {images.shape}."
        )
    return tf.data.Dataset.from_tensor_slices(
        {"image": images[..., None], "label": labels}
    )


def _from_builder(builder):
    """Training and test examples and the number of classes of a builder."""
    test_split = _test_split(builder)
    image = builder.info.features["image"]
    train, test = (
        _examples(builder, split, in_memory=None not in image.shape)
        for split in ("train", test_split)
    )
    return train, test, builder.info.features["label"].num_classes


def _test_split(builder):
    found: Sequence[str] = list(builder.info.splits)
    # ImageNet's `test` has no labels, so `validation` comes first.
    candidates = [s for s in ("validation", "val", "test") if s in found]
    if "train" not in found or not candidates:
        raise ValueError(
            f"{builder.name} must have a split `train`, and `test`, `validation` or "
            f"`val`. It has: {', '.join(found) or 'none'}"
        )
    return candidates[0]


def _examples(builder, split, *, in_memory):
    def pair(example: dict) -> tuple:
        return example["image"], example["label"]

    count = builder.info.splits[split].num_examples
    # Files are a fifth of their pixels: images wait for their turn undecoded.
    decoders = None if in_memory else {"image": tfds.decode.SkipDecoding()}
    examples = builder.as_dataset(split=split, decoders=decoders)
    examples = examples.map(pair, tf.data.AUTOTUNE)
    if in_memory:
        arrays = examples.batch(count).get_single_element()
        return tf.data.Dataset.from_tensor_slices(arrays)
    return examples.apply(tf.data.experimental.assert_cardinality(count))


def _sharded_by_example(batches):
    """Workers take turns at the batches: there are no files to share out."""
    options = tf.data.Options()
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.DATA
    )
    return batches.with_options(options)
