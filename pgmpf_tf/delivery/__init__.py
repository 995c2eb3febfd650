"""From a network and data without labels to smaller files, verified, in one call."""
