import os
import pathlib

import pytest

import daemon as daemon_module

collect_ignore = ["reuse_test.py"]  # a script for users; test_reuse.py runs it


def pytest_configure(config):
    # A proxy between a test and 127.0.0.1 is never what is meant.
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            del os.environ[name]


@pytest.fixture(scope="session")
def log_dir(tmp_path_factory) -> pathlib.Path:
    return tmp_path_factory.mktemp("kvserve-logs")


@pytest.fixture
def start(log_dir):
    """start("--flag", ...) gives a Daemon to be used in a with statement."""

    def make(*args, **options):
        return daemon_module.Daemon(*args, log_dir=log_dir, **options)

    return make
