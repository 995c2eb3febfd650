import numpy as np

from experiments.data.batches import Augmented


def test_epochs_see_all_images_moved_and_mirrored():
    x = np.arange(10 * 8 * 8, dtype="float32").reshape(10, 8, 8, 1) + 1
    batches, again = (Augmented(x, np.arange(10), 4, seed=0) for _ in range(2))
    assert len(batches) == 3
    epochs = []
    for _ in range(2):
        images, labels = map(
            np.concatenate, zip(*[batches[i] for i in range(3)], strict=True)
        )
        np.testing.assert_array_equal(images[:4], again[0][0])
        assert sorted(labels) == list(range(10))
        for image, label in zip(images, labels, strict=True):
            inside = image[image > 0]
            assert np.isin(inside, x[label]).all()
            assert len(inside) >= 7 * 7
        epochs.append(labels)
        batches.on_epoch_end()
        again.on_epoch_end()
    assert not np.array_equal(*epochs)
