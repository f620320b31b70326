"""Fixtures: the servers, and the pair of both for tests that must hold on either."""

import pytest

from servers import RedisServer, Scatterhoard


@pytest.fixture(scope="session")
def redis_server():
    server = RedisServer()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def pool():
    """A pool of 14 nodes for the tests of one file."""
    server = Scatterhoard()
    yield server
    server.stop()


@pytest.fixture
def client(pool):
    """A client of an empty pool."""
    with pool.client() as client:
        client.flushall()
        yield client


@pytest.fixture(params=["redis-server", "scatterhoard"])
def either(request):
    """An empty server: what holds for redis-server must hold for scatterhoard."""
    fixture = "redis_server" if request.param == "redis-server" else "pool"
    server = request.getfixturevalue(fixture)
    with server.client() as client:
        client.flushall()
    return server


@pytest.fixture(scope="session")
def applications_pool():
    """One pool for all applications, as it would be: with what a proxy keeps in memory, too."""
    server = Scatterhoard(hot_tier_mb=64)
    yield server
    server.stop()
