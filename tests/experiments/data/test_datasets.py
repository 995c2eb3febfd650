import gzip
import io
import os
import tarfile

import keras
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from tensorflow_datasets.core.download import checksums

from experiments.data import datasets, sources
from experiments.data.preprocessing import PREPROCESSING


def idx_bytes(values):
    header = b"\x00\x00\x08" + bytes([values.ndim])
    return header + np.array(values.shape, ">u4").tobytes() + values.tobytes()


@pytest.fixture
def fashion_folder(tmp_path):
    """A folder with four small files in the format of Fashion-MNIST."""
    folder = tmp_path / "files"
    folder.mkdir()
    random = np.random.default_rng(0)
    for split, count in (("train", 23), ("test", 11)):
        images, labels = sources.FASHION_MNIST_FILES[split]
        pixels = random.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        classes = random.integers(0, 10, count, dtype=np.uint8)
        (folder / images).write_bytes(gzip.compress(idx_bytes(pixels)))
        (folder / labels).write_bytes(gzip.compress(idx_bytes(classes)))
    return folder


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits", train_examples=100)


def collect(batches):
    images, labels = zip(*batches.as_numpy_iterator(), strict=True)
    return np.concatenate(images), np.concatenate(labels)


def test_digits_are_all_there_once_and_normalized():
    data = datasets.load("digits")
    assert (data.train_size, data.test_size) == (1347, 450)
    assert data.input_shape == (8, 8, 1)
    train, train_labels = collect(data.train_batches(64, seed=0, epochs=1))
    test, test_labels = collect(data.test_batches(64))
    everything = np.concatenate([train, test])
    assert len(np.unique(everything.reshape(1797, -1), axis=0)) == 1797
    assert abs(train.mean()) < 0.01
    assert abs(train.std() - 1) < 0.01
    share = np.bincount(train_labels) / 1347 - np.bincount(test_labels) / 450
    assert abs(share).max() < 0.005


def test_an_epoch_holds_every_image_once_and_in_another_order(digits):
    _, labels = collect(digits.train_batches(32, seed=5, epochs=2))
    assert digits.steps(32) == 4
    first, second = labels[:100], labels[100:]
    np.testing.assert_array_equal(np.sort(first), np.sort(second))
    assert not np.array_equal(first, second)


def test_a_pipeline_started_later_goes_on_as_the_uninterrupted_one(fashion_folder):
    data = datasets.load(
        "fashion_mnist", data_dir=fashion_folder, tfds_dir=fashion_folder / "tfds"
    )
    whole = list(data.train_batches(8, seed=1, epochs=3).as_numpy_iterator())
    later = list(
        data.train_batches(8, seed=1, epochs=3, first_epoch=2).as_numpy_iterator()
    )
    assert len(later) == data.steps(8) == 3
    for (x, y), (late_x, late_y) in zip(whole[6:], later, strict=True):
        np.testing.assert_array_equal(x, late_x)
        np.testing.assert_array_equal(y, late_y)
    other_seed = next(data.train_batches(8, seed=2, epochs=3).as_numpy_iterator())
    assert not np.array_equal(whole[0][0], other_seed[0])


@pytest.mark.parametrize("global_seed", [0, 1])
def test_the_global_seed_has_no_influence_and_suffers_none(digits, global_seed):
    def batches():
        return list(digits.train_batches(32, seed=3, epochs=1).as_numpy_iterator())

    expected = batches()
    keras.utils.set_random_seed(global_seed)
    drawn = tf.random.uniform([])
    keras.utils.set_random_seed(global_seed)
    for (x, y), (other_x, other_y) in zip(batches(), expected, strict=True):
        np.testing.assert_array_equal(x, other_x)
        np.testing.assert_array_equal(y, other_y)
    assert tf.random.uniform([]) == drawn


def test_augmentation_differs_between_epochs_and_spares_the_test_set(fashion_folder):
    data = datasets.load(
        "fashion_mnist", data_dir=fashion_folder, tfds_dir=fashion_folder / "tfds"
    )
    images, _ = collect(data.train_batches(23, seed=0, epochs=2))
    assert len(np.unique(images.reshape(46, -1), axis=0)) > 40
    raw = sources.read_idx(fashion_folder / "t10k-images-idx3-ubyte.gz")
    test, _ = collect(data.test_batches(4))
    np.testing.assert_allclose(test[..., 0], (raw - 72.94) / 90.02, rtol=1e-4)


def test_fashion_mnist_comes_from_the_files_in_their_order(fashion_folder):
    data = datasets.load(
        "fashion_mnist",
        data_dir=fashion_folder,
        tfds_dir=fashion_folder / "tfds",
        train_examples=20,
    )
    images, labels = zip(*data.train.as_numpy_iterator(), strict=True)
    pixels = sources.read_idx(fashion_folder / "train-images-idx3-ubyte.gz")
    classes = sources.read_idx(fashion_folder / "train-labels-idx1-ubyte.gz")
    np.testing.assert_array_equal(np.stack(images)[..., 0], pixels[:20])
    np.testing.assert_array_equal(labels, classes[:20])
    assert data.test_size == 11


def test_other_files_are_not_mistaken_for_those_prepared_before(fashion_folder):
    def load():
        return datasets.load(
            "fashion_mnist", data_dir=fashion_folder, tfds_dir=fashion_folder / "tfds"
        )

    assert load().test_size == 11
    labels = np.arange(5, dtype=np.uint8)
    pixels = np.zeros((5, 28, 28), np.uint8)
    files = sources.FASHION_MNIST_FILES["test"]
    for file, values in zip(files, (pixels, labels), strict=True):
        (fashion_folder / file).write_bytes(gzip.compress(idx_bytes(values)))
    assert load().test_size == 5


@pytest.mark.skipif(
    not sources.FASHION_MNIST_DIR.is_dir() and not os.environ.get("CI"),
    reason="Debian's package dataset-fashion-mnist is not installed",
)
def test_the_real_fashion_mnist_files_have_the_stated_pixels():
    images = sources.read_idx(
        sources.FASHION_MNIST_DIR / sources.FASHION_MNIST_FILES["train"][0]
    )
    assert images.shape == (60000, 28, 28)
    recipe = PREPROCESSING["fashion_mnist"]
    assert images.mean() == pytest.approx(recipe.mean[0], abs=0.01)
    assert images.std() == pytest.approx(recipe.std[0], abs=0.01)


def add(archive, name, content):
    entry = tarfile.TarInfo(name)
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def test_cifar10_is_read_from_its_archive(tmp_path, monkeypatch):
    records = np.random.default_rng(0).integers(0, 256, (6, 3073), dtype=np.uint8)
    records[:, 0] %= 10
    folder = tmp_path / "files"
    folder.mkdir()
    path = folder / "cifar-10-binary.tar.gz"
    files = {f"data_batch_{i}.bin": records[i - 1].tobytes() for i in range(1, 6)}
    files["test_batch.bin"] = records[5].tobytes()
    files["batches.meta.txt"] = "\n".join("abcdefghij").encode()
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            add(archive, f"cifar-10-batches-bin/{name}", content)
    # The small archive's checksum instead of the real one's; all else is real.
    url_infos = tfds.builder_cls("cifar10").url_infos
    for url in url_infos:
        monkeypatch.setitem(url_infos, url, checksums.compute_url_info(path))
    data = datasets.load("cifar10", data_dir=folder, tfds_dir=tmp_path / "tfds")
    assert (data.train_size, data.test_size, data.num_classes) == (5, 1, 10)
    image, label = next(data.test.as_numpy_iterator())
    assert label == records[5, 0]
    planes = records[5, 1:].reshape(3, 32, 32)
    np.testing.assert_array_equal(image, planes.transpose(1, 2, 0))
    images, _ = collect(data.train_batches(5, seed=0, epochs=1))
    assert images.shape == (5, 32, 32, 3)


def jpeg(random, height, width):
    pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
    return tf.io.encode_jpeg(pixels).numpy()


def test_imagenet_is_read_from_its_tar_files(tmp_path):
    random = np.random.default_rng(0)
    folder = tmp_path / "files"
    folder.mkdir()
    with tarfile.open(folder / "ILSVRC2012_img_train.tar", "w") as train:
        for synset in ("n01440764", "n15075141"):
            buffer = io.BytesIO()
            with tarfile.open(fileobj=buffer, mode="w") as images:
                for index in range(2):
                    content = jpeg(random, 40 + index, 50)
                    add(images, f"{synset}_{index}.JPEG", content)
            add(train, f"{synset}.tar", buffer.getvalue())
    with tarfile.open(folder / "ILSVRC2012_img_val.tar", "w") as validation:
        for index in range(1, 4):
            content = jpeg(random, 60, 45)
            add(validation, f"ILSVRC2012_val_{index:08d}.JPEG", content)
    data = datasets.load(
        "imagenet2012", data_dir=folder, tfds_dir=tmp_path / "tfds", input_size=32
    )
    assert (data.train_size, data.test_size, data.num_classes) == (4, 3, 1000)
    images, labels = collect(data.train_batches(3, seed=0, epochs=1))
    assert images.shape == (4, 32, 32, 3)
    assert sorted(labels) == [0, 0, 999, 999]
    assert abs(images).max() < 5
    test, _ = collect(data.test_batches(2))
    assert test.shape == (3, 32, 32, 3)
    assert data.train.element_spec[0].dtype == tf.string


@pytest.fixture
def image_folder(tmp_path):
    random = np.random.default_rng(0)
    for split, count in (("train", 5), ("val", 2)):
        for name in ("cat", "dog"):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            for index in range(count):
                (folder / f"{index}.jpg").write_bytes(jpeg(random, 30 + index, 40))
    return tmp_path / "images"


def test_images_wait_for_their_turn_as_files(image_folder):
    data = datasets.load("folder", data_dir=image_folder, input_size=16)
    files = {path.read_bytes() for path in image_folder.glob("val/*/*.jpg")}
    assert {image for image, _ in data.test.as_numpy_iterator()} == files
    expected = [
        data.preprocessing.test_image(tf.io.decode_jpeg(image))
        for image, _ in data.test
    ]
    found, _ = collect(data.test_batches(3))
    np.testing.assert_array_equal(found, np.stack(expected))


def test_a_folder_of_images_trains_a_model(image_folder):
    data = datasets.load("folder", data_dir=image_folder, input_size=16)
    assert (data.train_size, data.test_size, data.num_classes) == (10, 4, 2)
    model = keras.Sequential(
        [keras.Input(data.input_shape), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    batches = data.train_batches(4, seed=0, epochs=2)
    history = model.fit(
        batches, epochs=2, steps_per_epoch=3, validation_data=data.test_batches(4),
        verbose=0,
    )  # fmt: skip
    assert np.isfinite(history.history["val_loss"]).all()
    _, labels = collect(batches)
    assert np.bincount(labels).tolist() == [10, 10]


def test_what_is_held_out_is_spread_over_the_set_and_not_trained_on():
    whole = datasets.load("digits")
    data = datasets.load("digits", held_out=None)
    assert (data.train_size, int(data.validation.cardinality())) == (1213, 134)
    everything, watched, trained = (
        [image.tobytes() for image, _ in part.as_numpy_iterator()]
        for part in (whole.train, data.validation, data.train)
    )
    places = [everything.index(image) for image in watched]
    assert set(np.diff(places)) == {10, 11}
    kept = [image for image in everything if image not in set(watched)]
    assert trained == kept
    # The choice does not depend on how many of the others are trained on.
    fewer = datasets.load("digits", held_out=None, train_examples=50)
    assert [x.tobytes() for x, _ in fewer.validation.as_numpy_iterator()] == watched
    assert [x.tobytes() for x, _ in fewer.train.as_numpy_iterator()] == kept[:50]
    images, _ = collect(data.validation_batches(50))
    assert images.shape == (134, 8, 8, 1)


def test_where_nothing_is_held_out_the_test_images_are_watched(digits):
    found = collect(digits.validation_batches(50))
    for part, expected in zip(found, collect(digits.test_batches(50)), strict=True):
        np.testing.assert_array_equal(part, expected)


def test_files_are_held_out_unread(image_folder):
    data = datasets.load("folder", data_dir=image_folder, input_size=16, held_out=3)
    assert (data.train_size, int(data.validation.cardinality())) == (7, 3)
    parts = [
        {image for image, _ in part.as_numpy_iterator()}
        for part in (data.train, data.validation)
    ]
    assert parts[0] | parts[1] == {
        path.read_bytes() for path in image_folder.glob("train/*/*.jpg")
    }
    assert not parts[0] & parts[1]


def test_smaller_images_get_smaller_crops_and_holes():
    recipe = PREPROCESSING["cifar10"].resized(16)
    assert (recipe.input_size, recipe.padding, recipe.cutout) == (16, 2, 6)
    assert PREPROCESSING["cifar10"].resized(32) == PREPROCESSING["cifar10"]


def test_what_cannot_be_downloaded_is_said_at_once(tmp_path, monkeypatch):
    nobody = "http://127.0.0.1:9/cifar-10-binary.tar.gz"
    builder = tfds.builder_cls("cifar10")
    monkeypatch.setattr(builder, "url_infos", {nobody: None})
    message = (
        "not prepared in .*tfds, and .* cannot be reached .*`tfds_dir`.*`data_dir`"
    )
    with pytest.raises(FileNotFoundError, match=message):
        datasets.load("cifar10", tfds_dir=tmp_path / "tfds")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"name": "cifar"}, ValueError, "name='cifar'"),
        ({"train_examples": 0}, ValueError, "train_examples=0"),
        ({"train_examples": 1348}, ValueError, r"1\.\.1347 .*train_examples=1348"),
        ({"held_out": 1347}, ValueError, r"0\.\.1346 .*held_out=1347"),
        ({"held_out": 7, "train_examples": 1341}, ValueError, r"1\.\.1340"),
        ({"input_size": 0}, ValueError, "input_size=0"),
        ({"data_dir": "nowhere"}, FileNotFoundError, "data_dir='nowhere'"),
        ({"name": "folder"}, ValueError, "`data_dir` must be given"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        datasets.load(**({"name": "digits"} | arguments))


def test_missing_and_broken_files_are_named(fashion_folder):
    def load():
        return datasets.load(
            "fashion_mnist", data_dir=fashion_folder, tfds_dir=fashion_folder / "tfds"
        )

    path = fashion_folder / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    for broken, message in (
        (whole[:1000], "not a whole gzip file"),
        (b"pixels", "not a whole gzip file"),
        (gzip.compress(b"pixels"), "not an IDX file"),
        (gzip.compress(gzip.decompress(whole)[:-1]), "holds 18031 bytes"),
        (gzip.compress(idx_bytes(np.zeros((22, 28, 28), np.uint8))), "23 images"),
    ):
        path.write_bytes(broken)
        with pytest.raises(ValueError, match=message):
            load()
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks .*train-images-idx3-ubyte\.gz"):
        load()


def test_a_folder_without_a_test_split_is_refused(image_folder):
    (image_folder / "val").rename(image_folder / "extra")
    with pytest.raises(ValueError, match="It has: extra, train"):
        datasets.load("folder", data_dir=image_folder)
