"""Launchers, data sets, networks and benchmarks that use pgmpf_tf."""
