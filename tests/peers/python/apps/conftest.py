"""The fixture `both`: the servers, and the application that a test module is about."""

import pytest

from both import Both


@pytest.fixture
def both(request, redis_server, applications_pool):
    return Both(redis_server, applications_pool, request.module.APPLICATION)
