"""What BUILD takes from rules_python, out of a Bazel that has it built in."""

py_library = native.py_library
py_test = native.py_test
