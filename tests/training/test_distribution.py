"""Training on several replicas and by several workers equals training on one."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import keras
import numpy as np
import pytest

from tests import processes

ROOT = pathlib.Path(__file__).parents[2]


def start(*arguments, **environment):
    return subprocess.Popen(
        [sys.executable, *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(*processes):
    try:
        outputs = [process.communicate(timeout=300)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    for process, output in zip(processes, outputs, strict=True):
        assert process.returncode == 0, output


def cases(file):
    return "pytest", "-q", "-p", "no:cacheprovider", f"tests/training/{file}"


only_on = {
    backend: pytest.mark.skipif(
        keras.backend.backend() != backend, reason=f"a distribution of {backend}"
    )
    for backend in ("tensorflow", "jax", "torch")
}


@only_on["jax"]
@pytest.mark.feature("several devices")
def test_keras_distribution():
    flag = "--xla_force_host_platform_device_count=4"
    command = ("-m", *cases("sharded_cases.py"))
    # JAX has to know when it is imported.
    finish(start(*command, XLA_FLAGS=flag, JAX_PLATFORMS="cpu"))


@only_on["tensorflow"]
@pytest.mark.feature("several devices")
def test_mirrored_strategy():
    processes.run(*cases("mirrored_cases.py"))


def free_ports(count):
    sockets = [socket.socket() for _ in range(count)]
    for each in sockets:
        each.bind(("127.0.0.1", 0))
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@only_on["tensorflow"]
def test_two_workers_train_as_one_process(tmp_path):
    program = ("-m", "tests.training.worker_program")
    addresses = [f"127.0.0.1:{port}" for port in free_ports(2)]
    workers = [
        start(
            *program,
            tmp_path / f"{index}.npz",
            TF_CONFIG=json.dumps(
                {
                    "cluster": {"worker": addresses},
                    "task": {"type": "worker", "index": index},
                }
            ),
        )
        for index in (0, 1)
    ]
    from tests.training import worker_program

    worker_program.main(tmp_path / "single.npz")
    finish(*workers)
    assert_trained_as_one(tmp_path)


@only_on["torch"]
@pytest.mark.feature("several devices")
def test_distributed_data_parallel(tmp_path):
    program = ("-m", "tests.training.parallel_program")
    (port,) = free_ports(1)
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    finish(
        *(start(*program, tmp_path / f"{i}.npz", **group, RANK=str(i)) for i in (0, 1))
    )
    finish(start(*program, tmp_path / "single.npz"))
    assert_trained_as_one(tmp_path)


def assert_trained_as_one(tmp_path):
    single, first, second = (
        dict(np.load(tmp_path / f"{name}.npz")) for name in ("single", 0, 1)
    )
    assert set(single) == set(first) == set(second)
    for name, value in single.items():
        np.testing.assert_array_equal(first[name], second[name], err_msg=name)
        if ": mask of" in name:
            np.testing.assert_array_equal(first[name], value, err_msg=name)
            assert (value == 0).any()
        else:
            np.testing.assert_allclose(first[name], value, atol=2e-4, err_msg=name)
