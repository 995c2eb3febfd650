"""Packaging of pgmpf_tf: `pip install .`, or `pip install ".[EXTRA]"`."""

from pathlib import Path

from setuptools import find_packages, setup

PLOTS = ["matplotlib>=3.10"]
EXPERIMENTS = [
    *PLOTS,
    "tensorflow-datasets>=4.9.10",
    # tensorflow-datasets 4.9.10 prepares nothing without it, and does not ask for it.
    "importlib_resources>=6.5",
    "scikit-learn>=1.7",
    "tensorboard>=2.21",
]
TFMOT = ["tensorflow-model-optimization>=0.8.1", "tf_keras>=2.21"]
TEST = ["pytest>=9.2", "hypothesis>=6.168", "ruff>=0.17.6,<0.18", "selenium>=4.44"]

setup(
    name="pgmpf_tf",
    version="0.1.0",
    description=(
        "Structured pruning for Keras 3 that ends in a smaller network: "
        "prune while fine-tuning, compact, export"
    ),
    long_description=Path(__file__).with_name("README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["pgmpf_tf", "pgmpf_tf.*"]),
    package_data={"pgmpf_tf.reporting": ["templates/*"]},
    python_requires=">=3.10",
    install_requires=[
        "tensorflow>=2.21",
        "keras>=3.12",
        "numpy>=2.2",
        "absl-py>=1.4",
        "rich>=13.9",
        "jinja2>=3.1",
        # Runs the exported .tflite files: the interpreter in `tf.lite` is deprecated.
        "ai-edge-litert>=2.3",
    ],
    extras_require={
        "experiments": EXPERIMENTS,
        "plots": PLOTS,
        "tfmot": TFMOT,
        "test": TEST + EXPERIMENTS + TFMOT,
    },
    classifiers=[
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
