"""Fixtures: one emulator for each file, and a pool of functions in it."""

import itertools

import pytest

import emulators

numbers = itertools.count()


@pytest.fixture(scope="module")
def cloud():
    server = emulators.MiniStack()
    yield server
    server.stop()


@pytest.fixture
def functions(cloud):
    """Seven functions of the real zip, of names that were not used before."""
    made = emulators.Functions(cloud, f"pool-{next(numbers)}-node", 7)
    yield made
    made.delete()


@pytest.fixture
def proxy(cloud, functions):
    server = emulators.Proxy(cloud, functions)
    yield server
    server.stop()
