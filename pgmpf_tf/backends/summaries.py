"""TensorBoard event files, written without any backend's library."""

from __future__ import annotations

import time
from collections.abc import Mapping

import numpy as np


class SummaryLog:
    """TensorBoard event files in a directory.

    Args:
        directory: where they go.

    Raises:
        ImportError: if the package tensorboard is not installed.
    """

    def __init__(self, directory: str) -> None:
        try:
            from tensorboard.compat.proto.event_pb2 import Event
            from tensorboard.plugins.histogram.summary_v2 import histogram_pb
            from tensorboard.plugins.scalar.summary_v2 import scalar_pb
            from tensorboard.summary.writer.event_file_writer import EventFileWriter
        except ImportError as error:
            raise ImportError(
                "Logs for TensorBoard need that package: pip install tensorboard"
            ) from error
        self._event, self._histogram, self._scalar = Event, histogram_pb, scalar_pb
        self._writer = EventFileWriter(directory)

    def write(
        self,
        step: int,
        scalars: Mapping[str, float],
        histograms: Mapping[str, np.ndarray],
    ) -> None:
        """Writes named numbers, and arrays as histograms, for a step."""
        summaries = [self._scalar(name, value) for name, value in scalars.items()]
        summaries += [self._histogram(name, v) for name, v in histograms.items()]
        for summary in summaries:
            event = self._event(step=step, wall_time=time.time(), summary=summary)
            self._writer.add_event(event)
        self._writer.flush()

    def close(self) -> None:
        """Ends the file."""
        self._writer.close()
