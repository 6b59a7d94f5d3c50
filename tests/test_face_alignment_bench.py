"""`python -m benchmarks alignment`: bad input is said in one line."""

import argparse

import pytest

from benchmarks import alignment
from stream.errors import UserError


def test_a_folder_without_portraits_is_one_line(tmp_path):
    parser = argparse.ArgumentParser()
    alignment.add_arguments(parser)
    with pytest.raises(UserError, match="no portraits"):
        alignment.run(parser.parse_args(["--data", str(tmp_path)]))
