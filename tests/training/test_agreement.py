"""The same model, data and seed give the same masks on every backend."""

import keras
import numpy as np
import pytest

from tests.other_backends import on_others, run_without_tensorflow
from tests.training import agreement_program


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    if keras.backend.backend() != "tensorflow":
        pytest.skip("compares the others with TensorFlow, where they are all at hand")
    path = tmp_path_factory.mktemp("ours") / "end.npz"
    agreement_program.main(path)
    return dict(np.load(path))


@on_others("the same masks on every backend")
@pytest.mark.feature("the same masks on every backend", backend="tensorflow")
def test_masks_and_weights_are_those_of_tensorflow(backend, ours, tmp_path):
    path = tmp_path / "end.npz"
    run_without_tensorflow(backend, "-m", "tests.training.agreement_program", path)
    theirs = dict(np.load(path))
    assert theirs.keys() == ours.keys()
    for name, value in ours.items():
        if name.endswith("masks"):
            np.testing.assert_array_equal(theirs[name], value, err_msg=name)
            assert len(np.unique(value, axis=0)) > 1, name  # they do move
        else:
            np.testing.assert_allclose(theirs[name], value, atol=2e-4, err_msg=name)
            np.testing.assert_array_equal(theirs[name] == 0, value == 0, err_msg=name)
