"""The same random commands to redis-server and to scatterhoard: replies agree byte for byte.

A failure prints seed and step; SCATTERHOARD_SEED=N runs that seed alone.
"""

import os
import random
import time

import pytest

from resp import Raw, encode

STEPS = 2_000
SEEDS = [int(os.environ["SCATTERHOARD_SEED"])] if "SCATTERHOARD_SEED" in os.environ else [1, 2, 3]

KEYS = [b"a", b"b", b"c", b"key:\xff\x00", b"{tag}x", b"", b"long" * 40]
BAD_NUMBERS = [b"abc", b"", b"1.5", b"9223372036854775808", b" 1", b"+1", b"0x10", b"-", b"1e3"]
EXPIRE_NAMES = ["EXPIRE", "PEXPIRE", "EXPIREAT", "PEXPIREAT"]
TTL_NAMES = ["TTL", "PTTL", "EXPIRETIME", "PEXPIRETIME"]


class Generator:
    """Random commands of the supported set: mostly right, some wrong."""

    def __init__(self, seed):
        self.rng = random.Random(seed)

    def key(self):
        return self.rng.choice(KEYS)

    def value(self):
        size = self.rng.choices([0, 3, 40, 3_000, 300_000], [1, 8, 8, 3, 1])[0]
        return self.rng.randbytes(size)

    def seconds(self):
        # Far apart, so that milliseconds between the two servers decide nothing.
        return self.rng.randrange(1_000, 10_000_000)

    def when(self, name):
        """A right argument for an option or command of this name."""
        seconds = self.seconds() + (int(time.time()) if "AT" in name else 0)
        return seconds * 1_000 if name.startswith("P") else seconds

    def expiry_option(self):
        name = self.rng.choice(["EX", "PX", "EXAT", "PXAT"])
        wrong = self.rng.random()
        if wrong < 0.05:
            return [name]
        if wrong < 0.12:
            return [name, self.rng.choice([0, -1, 9223372036854775807, *BAD_NUMBERS])]
        return [name, self.when(name)]

    def set(self):
        options = self.rng.choices(
            [[], self.expiry_option(), ["NX"], ["XX"], ["KEEPTTL"], ["GET"], ["BOGUS"]],
            [6, 4, 2, 2, 2, 2, 1],
            k=self.rng.choice([0, 1, 1, 2, 3]),
        )
        return ["SET", self.key(), self.value(), *(word for option in options for word in option)]

    def getex(self):
        options = self.rng.choice(
            [[], self.expiry_option(), ["PERSIST"], ["EXAT", 1], ["BOGUS"],
             ["PERSIST", *self.expiry_option()]]
        )
        return ["GETEX", self.key(), *options]

    def expire(self):
        name = self.rng.choice(EXPIRE_NAMES)
        when = self.when(name)
        if self.rng.random() < 0.15:
            when = self.rng.choice([0, -1, 1, -9223372036854775808, 9223372036854775807, *BAD_NUMBERS])
            if when == 1 and name in ("EXPIRE", "PEXPIRE"):
                when = 0
        flags = self.rng.choices([[], ["NX"], ["XX"], ["GT"], ["LT"], ["BOGUS"]], [5, 2, 2, 2, 2, 1],
                                 k=self.rng.choice([0, 1, 1, 2]))
        return [name, self.key(), when, *(word for flag in flags for word in flag)]

    def keys_command(self):
        name = self.rng.choice(["DEL", "UNLINK", "EXISTS", "TOUCH", "MGET"])
        return [name, *(self.key() for _ in range(self.rng.choice([1, 1, 2, 3, 5])))]

    def pairs_command(self):
        words = [word for _ in range(self.rng.choice([1, 2, 3])) for word in (self.key(), self.value())]
        if self.rng.random() < 0.1:
            words.pop()
        return [self.rng.choice(["MSET", "MSET", "MSETNX"]), *words]

    def setex(self):
        name = self.rng.choice(["SETEX", "PSETEX"])
        when = self.when(name)
        if self.rng.random() < 0.2:
            when = self.rng.choice([0, -5, *BAD_NUMBERS])
        return [name, self.key(), when, self.value()]

    def one_key(self):
        names = ["GET", "GET", "GET", "GETDEL", "TYPE", "STRLEN", "PERSIST", *TTL_NAMES]
        return [self.rng.choice(names), self.key()]

    def two_words(self):
        return [self.rng.choice(["SETNX", "GETSET"]), self.key(), self.value()]

    def place(self):
        """A place in a value, or where a number is wanted and is none."""
        if self.rng.random() < 0.1:
            return self.rng.choice([-9223372036854775808, 9223372036854775807, *BAD_NUMBERS])
        return self.rng.choice([0, 1, -1, 2, self.rng.randrange(-50, 50), self.rng.randrange(-200_000, 200_000)])

    def part(self):
        name = self.rng.choice(["GETRANGE", "GETRANGE", "SUBSTR", "SETRANGE", "APPEND"])
        match name:
            case "APPEND":
                return [name, self.key(), self.value()]
            case "SETRANGE":
                return [name, self.key(), self.place(), self.rng.choice([b"", self.value()])]
            case _:
                return [name, self.key(), self.place(), self.place()]

    def server(self):
        return self.rng.choice(
            [["DBSIZE"], ["PING"], ["PING", "hello"], ["ECHO", self.value()], ["SELECT", 0],
             ["SELECT", self.rng.choice([1, 3, 15])], ["SELECT", self.rng.choice([16, -1, b"x"])],
             ["FLUSHDB"], ["FLUSHDB", "ASYNC"], ["FLUSHALL", "SYNC"], ["FLUSHALL", "BOGUS"],
             ["CLIENT", "SETNAME", "diff"], ["CLIENT", "GETNAME"], ["CLIENT", "SETNAME", "a b"]]
        )

    def wrong(self):
        """Wrong arity for known commands, and commands that nobody knows."""
        names = ["SET", "GET", "GETDEL", "GETEX", "MGET", "MSET", "MSETNX", "DEL", "UNLINK", "EXISTS",
                 "TOUCH", "TYPE", "STRLEN", "TTL", "PTTL", "PERSIST", "SETEX", "PSETEX", "SETNX",
                 "GETSET", "GETRANGE", "SUBSTR", "SETRANGE", "APPEND", "SELECT", "DBSIZE", "ECHO", "PING", "EXPIRETIME", *EXPIRE_NAMES]
        match self.rng.randrange(3):
            case 0:
                return [self.rng.choice(names)]
            case 1:
                return [self.rng.choice(["GET", "TTL", "TYPE", "DBSIZE", "ECHO", "PING", "STRLEN",
                                         "SELECT", "GETDEL", "PERSIST", "SETNX"]), b"1", b"2", b"3"]
            case _:
                words = [b"x" * self.rng.randrange(1, 60) for _ in range(self.rng.randrange(4))]
                return [self.rng.choice(["NOSUCH", "get2", "F\xd6\xd6"]), *words]

    def command(self):
        kinds = [self.set, self.one_key, self.getex, self.expire, self.keys_command,
                 self.pairs_command, self.setex, self.two_words, self.part, self.server, self.wrong]
        command = self.rng.choices(kinds, [10, 12, 3, 6, 5, 3, 3, 3, 6, 2, 3])[0]()
        if self.rng.random() < 0.2:  # names know no case
            command[0] = "".join(self.rng.choice([c.lower(), c.upper()]) for c in command[0])
        return command


def agree(command, ours, theirs):
    if ours == theirs:
        return True
    name = command[0].upper()
    if name not in TTL_NAMES or not (ours[:1] == theirs[:1] == b":"):
        return False
    ours, theirs = int(ours[1:]), int(theirs[1:])
    tolerance = 1_500 if name.startswith("P") else 1
    return min(ours, theirs) >= 0 and abs(ours - theirs) <= tolerance


def contents(server):
    """All keys with their values, of all databases."""
    found = {}
    for number in range(16):
        with server.client(db=number) as client:
            for key in client.scan_iter():
                found[number, key] = client.get(key)
    return found


@pytest.mark.parametrize("seed", SEEDS)
def test_same_commands_same_replies(seed, redis_server, pool):
    generator = Generator(seed)
    with Raw(redis_server) as oracle, Raw(pool) as subject:
        assert oracle.call("FLUSHALL") == subject.call("FLUSHALL") == b"+OK\r\n"
        for step in range(STEPS):
            command = generator.command()
            theirs, ours = oracle.call(*command), subject.call(*command)
            assert agree(command, ours, theirs), (
                f"seed {seed} step {step}: {brief(command)}\n"
                f"redis-server: {theirs[:200]!r}\nscatterhoard: {ours[:200]!r}"
            )
    assert contents(pool) == contents(redis_server)


def brief(command):
    return [word if not isinstance(word, bytes) or len(word) < 80 else word[:80] + b"..."
            for word in command]


@pytest.mark.parametrize("seed", SEEDS)
def test_same_pipeline_same_replies(seed, redis_server, pool):
    """The same, but sent in bursts: what one command leaves, the next one finds."""
    generator = Generator(seed + 1_000)
    with Raw(redis_server) as oracle, Raw(pool) as subject:
        assert oracle.call("FLUSHALL") == subject.call("FLUSHALL") == b"+OK\r\n"
        for burst in range(20):
            commands = [generator.command() for _ in range(25)]
            data = b"".join(encode(*command) for command in commands)
            oracle.send(data)
            subject.send(data)
            for index, command in enumerate(commands):
                theirs, ours = oracle.reply(), subject.reply()
                assert agree(command, ours, theirs), (
                    f"seed {seed} burst {burst} command {index}: {brief(command)}\n"
                    f"redis-server: {theirs[:200]!r}\nscatterhoard: {ours[:200]!r}"
                )
