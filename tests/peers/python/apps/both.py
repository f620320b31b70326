"""One scenario, two servers: the same answers, or a difference with its reason.

A scenario uses a library through its public interface, as an application does, and notes what it
sees. It runs against a real redis-server and against scatterhoard; their notes are compared. What
came out, and which commands the library sent, is kept for docs/compatibility.md.
"""

import asyncio
import functools
import importlib.metadata
import json
import os
import pathlib
import random
import re
import time
from collections import Counter

import redis

from servers import ROOT

TARGET = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
RESULTS = TARGET / "compatibility"
SEED = 20_265

# What is stored of values: enough to tell which one differs.
SHOWN = 300


class Notes:
    """What a scenario saw at one server."""

    def __init__(self, server):
        self.server, self.seen, self.asked = server, [], Counter()
        self.began = time.monotonic()

    def direct(self, db=0):
        """A client for a look past the library; what it sends is not the library's."""
        self.asked["select"] += db != 0
        return Direct(self.asked, host="127.0.0.1", port=self.server.port, db=db, protocol=2,
                      socket_timeout=60)

    def __call__(self, label, value, *expected):
        """Notes a value; with `expected` it must be that, too."""
        if expected:
            assert value == expected[0], f"{label}: {shown(value)}, not {shown(expected[0])}"
        self.seen.append((label, value))
        return value

    def ttl(self, label, seconds, expected):
        """A time to live, which may have run for as long as the scenario has, to the second."""
        least = expected - (time.monotonic() - self.began) - 1
        right = least <= seconds <= expected + 1 if expected > 0 else seconds == expected
        assert right, f"{label}: {seconds} s to live, not {expected}"
        self.seen.append((label, f"about {expected} s"))

    def raises(self, label, work, *arguments, **named):
        """Notes the exception that the work must end with: its type and text."""
        try:
            result = work(*arguments, **named)
        except Exception as error:
            self.seen.append((label, f"{type(error).__name__}: {error}"))
            return error
        raise AssertionError(f"{label}: {shown(result)}, and no exception")

    async def raises_async(self, label, awaitable):
        try:
            result = await awaitable
        except Exception as error:
            self.seen.append((label, f"{type(error).__name__}: {error}"))
            return error
        raise AssertionError(f"{label}: {shown(result)}, and no exception")


class Direct(redis.Redis):
    def __init__(self, asked, **options):
        super().__init__(**options)
        self.asked = asked

    def execute_command(self, *arguments, **options):
        self.asked[arguments[0].lower()] += 1
        return super().execute_command(*arguments, **options)


def shown(value):
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}… ({len(text)} characters)"


class Both:
    """The two servers, and where results of one application go."""

    def __init__(self, redis_server, scatterhoard, application):
        self.servers = [redis_server, scatterhoard]
        self.application = application

    def run(self, scenario, *arguments, differs=None):
        """Runs `scenario(server, note, *arguments)` at both. `differs` names labels and why."""
        differs = differs or {}
        seen, commands = [], []
        for server in self.servers:
            with server.client() as client:
                client.flushall()
                client.script_flush()
                if server is self.servers[0]:
                    client.config_resetstat()
            note = Notes(server)
            scenario(server, note, *arguments)
            seen.append(note.seen)
            if server is self.servers[0]:
                commands = commands_sent(server, note.asked)
        compare(*seen, differs)
        self.application.passed(scenario, len(seen[0]), commands, differs)


def compare(real, ours, differs):
    labels = [label for label, _ in real]
    assert labels == [label for label, _ in ours], "the scenario went another way"
    told = {}
    for (label, expected), (_, got) in zip(real, ours):
        if expected == got:
            continue
        assert label in differs, (
            f"{label}: redis-server {shown(expected)}, scatterhoard {shown(got)}"
        )
        told[label] = got
    assert told.keys() == differs.keys(), f"no difference any more: {differs.keys() - told.keys()}"


def commands_sent(redis_server, asked):
    """What redis-server was asked for since its counters were reset, but for our own."""
    with redis_server.client() as client:
        counted = client.info("commandstats")
    calls = {name.removeprefix("cmdstat_"): of["calls"] for name, of in counted.items()}
    ours = asked + Counter({"info": 1, "config|resetstat": 1})
    return sorted(name for name in calls if calls[name] > ours[name])


class Application:
    """A library under test, and its line in docs/compatibility.md."""

    def __init__(self, name, versions, exercised):
        self.name, self.exercised = name, exercised
        self.versions = versions if isinstance(versions, dict) else {
            package: importlib.metadata.version(package) for package in versions
        }
        name = re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")
        self.file = RESULTS / f"{name}.jsonl"
        self.begun = False

    def passed(self, scenario, answers, commands, differs):
        self.file.parent.mkdir(parents=True, exist_ok=True)
        with open(self.file, "a" if self.begun else "w") as file:
            print(json.dumps({
                "application": self.name,
                "versions": self.versions,
                "exercised": self.exercised,
                "scenario": scenario.__name__,
                "answers": answers,
                "commands": commands,
                "differs": differs,
            }), file=file)
        self.begun = True


def asynchronous(scenario):
    """A scenario that is a coroutine."""
    @functools.wraps(scenario)
    def run(server, note, *arguments):
        asyncio.run(scenario(server, note, *arguments))
    return run


def bodies(sizes=(1, 100, 9_000, 300_000, 3_000_000)):
    """Values from a byte to a few MB, always the same."""
    rng = random.Random(SEED)
    return [rng.randbytes(size) for size in sizes]


def large_body(megabytes=120):
    """One that no node holds alone; cheap to make, and no two MB of it are alike."""
    block = random.Random(SEED).randbytes(1 << 20)
    return b"".join(index.to_bytes(8, "big") + block[8:] for index in range(megabytes))
