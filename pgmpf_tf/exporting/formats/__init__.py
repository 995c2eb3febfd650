"""One file per format, behind the interface of `base`."""
