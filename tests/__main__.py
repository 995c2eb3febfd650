"""`python -m tests tests/rules` is `pytest tests/rules`, for what runs files only."""

import sys

import pytest

sys.exit(pytest.main())
