"""The fixture `both`: the servers, and the application that a test module is about."""

import pytest

from both import Both


@pytest.fixture
def application(request):
    """A module about several has a fixture of its own."""
    return request.module.APPLICATION


@pytest.fixture
def both(redis_server, applications_pool, application):
    return Both(redis_server, applications_pool, application)
