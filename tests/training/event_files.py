"""What TensorBoard would show of a directory, read without any backend's library."""

from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.util.tensor_util import make_ndarray


def read_events(directory):
    """Each value in the event files below a directory: plugin, tag, step, array."""
    for path in sorted(directory.rglob("*tfevents*")):
        plugins = {}
        for event in EventFileLoader(str(path)).Load():
            for value in event.summary.value:
                name = value.metadata.plugin_data.plugin_name
                plugin = plugins.setdefault(value.tag, name)
                yield plugin, value.tag, event.step, make_ndarray(value.tensor)
