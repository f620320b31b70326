"""Symfony's cache, PHP's sessions and Rails' cache store, as Debian's packages bring them."""

import json
import pathlib
import subprocess

import pytest

from both import Application

HERE = pathlib.Path(__file__).parent


def say(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def minor(version):
    """Debian's patches come by themselves; docs/compatibility.md is not to change with them."""
    return ".".join(version.split(".")[:2])


def php():
    return {"php": minor(say("php", "-r", "echo PHP_VERSION;")),
            "phpredis": minor(say("php", "-r", "echo phpversion('redis');"))}


def rails():
    said = say("ruby", "-ractive_support", "-rredis", "-e",
               "puts ActiveSupport::VERSION::STRING, Redis::VERSION, RUBY_VERSION").split()
    return dict(zip(["activesupport", "redis-rb", "ruby"], map(minor, said)))


def symfony():
    version = say("dpkg-query", "-W", "-f", "${Version}", "php-symfony-cache")
    return {"symfony/cache": minor(version), **php()}


@pytest.fixture(scope="module")
def applications():
    return {
        "symfony": Application(
            "Symfony cache", symfony(),
            "RedisAdapter: items, get with a callback, deferred saves, clear by prefix, PSR-16; "
            "1 byte to 120 MB"),
        "sessions": Application(
            "PHP sessions (phpredis)", php(),
            "session handler with locking: start, write, regenerate, destroy, another's lock; "
            "phpredis' pipelines, transactions, scripts, scans"),
        "rails": Application(
            "Rails cache store", rails(),
            "RedisCacheStore: read, write, fetch, *_multi, increment, delete_matched, clear, threads; "
            "1 byte to 120 MB"),
    }


@pytest.fixture
def application(applications, request):
    return applications[request.param]


def program(server, note, *command):
    done = subprocess.run([*command, str(server.port)], capture_output=True, text=True, timeout=200,
                          cwd=HERE)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    for line in done.stdout.splitlines():
        note(*json.loads(line))


def php_program(server, note, function):
    program(server, note, "php", "-d", "memory_limit=1G", "php_cache.php", function)


def rails_program(server, note):
    program(server, note, "ruby", "rails_cache.rb")


@pytest.mark.parametrize("application", ["symfony"], indirect=True)
def test_symfony(both):
    both.run(php_program, "symfony")


@pytest.mark.parametrize("application", ["symfony"], indirect=True)
def test_symfony_tags(both):
    both.run(php_program, "tags", differs={
        "tags": "RedisTagAwareAdapter keeps tags in sets (SADD), which Scatterhoard does not have: "
                "an item with tags is not saved",
    })


@pytest.mark.parametrize("application", ["sessions"], indirect=True)
def test_sessions(both):
    both.run(php_program, "sessions")


@pytest.mark.parametrize("application", ["sessions"], indirect=True)
def test_phpredis(both):
    both.run(php_program, "lua")


@pytest.mark.parametrize("application", ["rails"], indirect=True)
def test_rails(both):
    both.run(rails_program)
