"""Where the raw images come from: files, tensorflow-datasets, scikit-learn."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import requests
import tensorflow as tf
import tensorflow_datasets as tfds

FASHION_MNIST_DIR = Path("/usr/share/datasets/fashion-mnist")
FASHION_MNIST_FILES = {
    "train": ("train-images-idx3-ubyte.gz", "train-labels-idx1-ubyte.gz"),
    "test": ("t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"),
}
# So long may a server take until it answers.
_ANSWER_SECONDS = 10


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


def digits() -> tuple[tf.data.Dataset, tf.data.Dataset, int]:
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


def builder(
    name: str, data_dir: str | None, tfds_dir: str | None
) -> tfds.core.DatasetBuilder:
    """The tensorflow-datasets builder of a data set, prepared.

    Raises:
        ValueError: if files are not in their format, or `data_dir` is missing.
        FileNotFoundError: if files are missing, and cannot be downloaded either.
    """
    if name == "folder":
        if data_dir is None:
            raise ValueError("`data_dir` must be given for the data set 'folder'.")
        return tfds.ImageFolder(data_dir)
    if name == "fashion_mnist" and (data_dir or FASHION_MNIST_DIR.is_dir()):
        return _fashion_mnist_from_files(Path(data_dir or FASHION_MNIST_DIR), tfds_dir)
    found = tfds.builder(name, data_dir=tfds_dir)
    if not found.is_prepared():
        _check_sources(found, data_dir)
        found.download_and_prepare(
            download_config=tfds.download.DownloadConfig(manual_dir=data_dir)
        )
    return found


def _check_sources(builder: tfds.core.DatasetBuilder, data_dir: str | None) -> None:
    """Says at once what tensorflow-datasets would find out after minutes."""
    here = {path.name for path in Path(data_dir).iterdir()} if data_dir else set()
    for url in builder.url_infos:
        if url.rsplit("/", 1)[-1] in here:
            continue
        try:
            requests.head(url, timeout=_ANSWER_SECONDS, allow_redirects=True)
        except requests.RequestException as error:
            raise FileNotFoundError(
                f"The data set {builder.name} is not prepared in "
                f"{Path(builder.data_dir).parents[1]}, and {url} cannot be reached "
                f"({type(error).__name__}). Give `tfds_dir`, a folder in which "
                "tensorflow-datasets has prepared it, or `data_dir`, a folder with "
                f"{url.rsplit('/', 1)[-1]}."
            ) from error


def _fashion_mnist_from_files(
    folder: Path, tfds_dir: str | None
) -> tfds.core.DatasetBuilder:
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


def _idx_examples(image_path: Path, label_path: Path) -> tf.data.Dataset:
    images, labels = read_idx(image_path), read_idx(label_path)
    if images.shape != (len(labels), 28, 28):
        raise ValueError(
            f"{image_path} must hold {len(labels)} images of 28x28 pixels, as many as "
            f"{label_path} has labels. It holds shape {images.shape}."
        )
    return tf.data.Dataset.from_tensor_slices(
        {"image": images[..., None], "label": labels}
    )


def examples(
    builder: tfds.core.DatasetBuilder,
) -> tuple[tf.data.Dataset, tf.data.Dataset, int]:
    """Training and test examples and the number of classes of a builder.

    Raises:
        ValueError: if it has no training or no test split.
    """
    test_split = _test_split(builder)
    image = builder.info.features["image"]
    train, test = (
        _examples(builder, split, in_memory=None not in image.shape)
        for split in ("train", test_split)
    )
    return train, test, builder.info.features["label"].num_classes


def _test_split(builder: tfds.core.DatasetBuilder) -> str:
    found: Sequence[str] = list(builder.info.splits)
    # ImageNet's `test` has no labels, so `validation` comes first.
    candidates = [s for s in ("validation", "val", "test") if s in found]
    if "train" not in found or not candidates:
        raise ValueError(
            f"{builder.name} must have a split `train`, and `test`, `validation` or "
            f"`val`. It has: {', '.join(found) or 'none'}"
        )
    return candidates[0]


def _examples(
    builder: tfds.core.DatasetBuilder, split: str, *, in_memory: bool
) -> tf.data.Dataset:
    def pair(example: dict[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        return example["image"], example["label"]

    count = builder.info.splits[split].num_examples
    # Files are a fifth of their pixels: images wait for their turn undecoded.
    decoders = None if in_memory else {"image": tfds.decode.SkipDecoding()}
    examples = builder.as_dataset(split=split, decoders=decoders)
    examples = examples.map(pair, tf.data.AUTOTUNE)
    return held(examples, count, in_memory=in_memory)


def held(examples: tf.data.Dataset, count: int, *, in_memory: bool) -> tf.data.Dataset:
    """The same examples, read once and kept, or with their number known."""
    if in_memory:
        arrays = examples.batch(count).get_single_element()
        return tf.data.Dataset.from_tensor_slices(arrays)
    return examples.apply(tf.data.experimental.assert_cardinality(count))
