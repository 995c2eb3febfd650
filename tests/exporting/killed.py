"""The process that test_kill.py kills: it exports over files that are there."""

from pgmpf_tf.exporting import export
from tests.exporting.networks import convnet

FORMATS = ("saved_model", "tflite", "keras")


def export_over(directory, classes, ready):
    """Exports a network of so many classes; sets `ready` when that begins."""
    model = convnet(classes=classes)
    ready.set()
    export(model, directory, FORMATS, verbose=False)
