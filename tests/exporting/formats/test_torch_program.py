"""`.pt2` files, on Keras' PyTorch backend; what is said on another."""

import keras
import numpy as np
import pytest
from keras import layers

from pgmpf_tf.exporting import export


def several():
    keras.utils.set_random_seed(0)
    left, right = keras.Input((5, 5, 2), name="left"), keras.Input((3,), name="b-right")
    x = layers.Flatten()(layers.Conv2D(4, 3, activation="relu")(left))
    merged = layers.Concatenate()([x, right])
    scores = layers.Dense(4, name="scores")(merged)
    return keras.Model([left, right], [scores, layers.Dense(1, name="box")(merged)])


if keras.backend.backend() == "torch":

    @pytest.mark.parametrize("batch_size", [None, 2])
    def test_a_program_has_the_names_and_the_batch(tmp_path, batch_size):
        model = several()
        report = export(model, tmp_path, "torch", batch_size=batch_size, verbose=False)
        import torch

        module = torch.export.load(report["torch"].path).module()
        for count in (1, 5) if batch_size is None else (batch_size,):
            generator = np.random.default_rng(count)
            left = generator.normal(size=(count, 5, 5, 2)).astype("float32")
            right = generator.normal(size=(count, 3)).astype("float32")
            outputs = module([torch.from_numpy(left), torch.from_numpy(right)])
            wanted = model.predict([left, right], verbose=0)
            for name, array in zip(("scores", "box"), wanted, strict=True):
                got = outputs[name].detach().numpy()
                np.testing.assert_allclose(got, array, atol=1e-5)

else:

    def test_another_backend_says_which_one_is_needed(tmp_path, monkeypatch):
        monkeypatch.setattr(
            "pgmpf_tf.exporting.formats.base._is_importable", lambda package: True
        )
        with pytest.raises(ImportError, match="KERAS_BACKEND to torch"):
            export(several(), tmp_path, "torch", verbose=False)
