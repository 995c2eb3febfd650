"""What is left of narrow branches converts to built-in operations."""

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from experiments.networks import models
from pgmpf_tf.compaction import compact
from pgmpf_tf.exporting import export
from pgmpf_tf.training.wrapping import wrap


@pytest.mark.parametrize("batch_size", [None, 1])
def test_independent_coupling(tmp_path, batch_size):
    model = models.build("resnet8", input_shape=(8, 8, 3), num_classes=5)
    for weight in model.weights:
        if "variance" not in weight.name:
            noise = np.random.default_rng(len(weight.path)).normal(size=weight.shape)
            weight.assign(0.3 * noise)
    pruned = wrap(model, rate=0.4, coupling="independent")
    pruned.apply_masks()
    small = compact(pruned)
    scatters = [x for x in small.operations if type(x).__name__ == "Take"]
    assert scatters, "the network must have what this test is about"
    report = export(small, tmp_path, formats="tflite", batch_size=batch_size)
    interpreter = Interpreter(str(report["tflite"].path))
    interpreter.allocate_tensors()
    operations = [detail["op_name"] for detail in interpreter._get_ops_details()]
    assert set(operations) <= {
        "ADD",
        "CONV_2D",
        "DELEGATE",
        "FULLY_CONNECTED",
        "GATHER",
        "MEAN",
        "PAD",
        "STRIDED_SLICE",
        "TRANSPOSE",
    }
    # XNNPACK takes all but the gathers, and so a run of operations before each.
    assert 1 <= operations.count("DELEGATE") <= operations.count("GATHER") + 1
