"""Django's settings are those of the process: made once, for the tests of both its caches."""

import django
from django.conf import settings
from django.test import override_settings

settings.configure(SECRET_KEY="of no worth", USE_TZ=True, ALLOWED_HOSTS=["*"])
django.setup()


def cache_settings(backend, server, **more):
    return override_settings(CACHES={"default": {
        "BACKEND": backend, "LOCATION": f"redis://127.0.0.1:{server.port}/1",
        "KEY_PREFIX": "site", **more,
    }})
