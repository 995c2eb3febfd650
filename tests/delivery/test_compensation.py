import numpy as np

from pgmpf_tf.delivery.compensation import compensate
from pgmpf_tf.delivery.copying import copy_of
from tests.delivery.networks import classifier, images


def test_sums_have_the_means_of_the_dense_network_and_zeros_stay():
    dense = classifier(norm=False)
    pruned, x = copy_of(dense), images(40) / 255
    first = pruned.get_layer("first")
    alive = np.arange(16) >= 6
    first.kernel.assign(first.kernel * alive)
    first.bias.assign(first.bias * alive)
    assert compensate(dense, pruned, x) == 3
    assert not np.asarray(first.bias)[~alive].any()
    # The last sums, before the softmax: their means are the dense network's.
    logits = [np.log(model.predict(x, verbose=0)) for model in (dense, pruned)]
    differences = [(row - row[:, :1]).mean(axis=0) for row in logits]
    np.testing.assert_allclose(differences[1], differences[0], atol=1e-3)
