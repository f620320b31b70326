"""Makes docs/compatibility.md from what was run.

The command table comes from the running proxy, asked beside a redis-server, and from notes.toml.
The application table comes from the results that the tests in tests/peers left under
target/compatibility.

    generate.py           says how docs/compatibility.md differs from what it should be
    generate.py --write   writes it
"""

import difflib
import fnmatch
import json
import os
import pathlib
import sys
import tomllib

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path.insert(0, str(HERE.parent / "python"))

import redis  # noqa: E402

from servers import RedisServer, Scatterhoard  # noqa: E402

DOCUMENT = ROOT / "docs/compatibility.md"
RESULTS = pathlib.Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "compatibility"
REDIS_VERSION = "7.0.15"
TITLES = {
    "string": "Strings", "bitmap": "Bits", "generic": "Keys", "hash": "Hashes",
    "transactions": "Transactions", "scripting": "Scripts", "pubsub": "Publish and subscribe",
    "connection": "Connection", "server": "Server", "cluster": "Cluster", "list": "Lists",
    "set": "Sets", "sorted-set": "Sorted sets", "stream": "Streams", "geo": "Geographical indexes",
    "hyperloglog": "HyperLogLogs",
}
# What must have been run: a document without one of them would be made of half a run.
APPLICATIONS = [
    "redis-py", "the redis crate", "ioredis", "node-redis", "redis-cli", "redis-benchmark",
    "Django cache", "django-redis", "Flask-Caching", "aiocache", "dogpile.cache", "cashews",
    "Celery result backend", "requests-cache", "limits (rate limiter)", "fastapi-cache",
    "keyv and cache-manager", "connect-redis", "rate-limiter-flexible", "express-rate-limit",
    "Symfony cache", "PHP sessions (phpredis)", "Rails cache store",
]


class Wrong(Exception):
    """The document cannot be made: what is missing, or contradicts something."""


class Asked:
    """What a server says of its commands, as on the wire."""

    def __init__(self, server):
        self.connection = redis.Connection(host="127.0.0.1", port=server.port, protocol=2)
        self.connection.connect()

    def __call__(self, *arguments):
        self.connection.send_command(*arguments)
        try:
            return self.connection.read_response()
        except redis.ResponseError as error:
            return error

    def commands(self):
        """{name: what COMMAND says of it}; subcommands as container|subcommand."""
        found = {}

        def add(entry):
            name, subcommands = entry[0].decode(), entry[9]
            # A container that is none by itself has an arity of at least two.
            if not subcommands or name == "command":
                found[name] = [entry[1], *(sorted(part) if isinstance(part, list) else part
                                           for part in entry[2:7])]
            for subcommand in subcommands:
                add(subcommand)

        for entry in self("COMMAND"):
            add(entry)
        return found

    def groups(self):
        said = self("COMMAND", "DOCS")
        pairs = zip(said[::2], said[1::2])
        return {name.decode(): dict(zip(of[::2], of[1::2]))[b"group"].decode() for name, of in pairs}


def spread(notes):
    """Notes by command: a heading may name several."""
    spread_notes = {}
    for names, note in notes["commands"].items():
        for name in names.split():
            if name in spread_notes:
                raise Wrong(f"two notes on {name}")
            spread_notes[name] = note
    return spread_notes


def judge(redis_server, scatterhoard, notes):
    """[(group, name, answer, why, cost)] of all commands of either."""
    real, ours = Asked(redis_server), Asked(scatterhoard)
    version = dict(line.split(b":", 1) for line in real("INFO", "server").splitlines()
                   if b":" in line)[b"redis_version"].decode()
    if version != REDIS_VERSION:
        raise Wrong(f"redis-server is {version}, and not {REDIS_VERSION}")
    theirs, here, groups = real.commands(), ours.commands(), real.groups()
    noted = spread(notes)
    if unknown := noted.keys() - theirs.keys() - here.keys():
        raise Wrong(f"notes.toml names what is no command: {sorted(unknown)}")
    if unknown := notes["groups"].keys() - TITLES.keys():
        raise Wrong(f"notes.toml names what is no group: {sorted(unknown)}")
    rows, wrong = [], []

    def planned(name):
        return any(fnmatch.fnmatch(name, pattern) for pattern in notes["planned"])

    for name in sorted(theirs.keys() | here.keys()):
        group = groups[name.split("|")[0]]
        note = {**notes["groups"].get(group, {}), **noted.get(name, {})}
        why, cost = "", note.get("cost", "")
        if name not in theirs:
            answer, why = "more", "a later Redis has it"
        elif name in here and "refused" in noted.get(name, {}):
            wrong.append(f"{name} is answered, and notes.toml says why it is refused")
            continue
        elif name in here:
            if here[name] != theirs[name] and "differs" not in note:
                wrong.append(f"{name}: COMMAND says {here[name]}, redis-server's {theirs[name]}")
            answer, why = ("differs", note["differs"]) if "differs" in note else ("full", "")
        elif "refused" in note or planned(name):
            said = ours(*name.split("|"))
            if "unknown" not in str(said):
                wrong.append(f"{name} is not in COMMAND, and its answer is {said}")
            answer, why, cost = "refused", note.get("refused", ""), ""
            if "refused" not in note:
                answer = "not yet"
        else:
            wrong.append(f"{name} is not answered, and notes.toml does not say why")
            continue
        rows.append((group, name, answer, why, cost))
    if wrong:
        raise Wrong("\n".join(wrong))
    return rows, here.keys()


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |"
                     for line in lines)


def command_tables(rows):
    parts = []
    for group, title in TITLES.items():
        # Commands of which the same is to be said stand together.
        same = {}
        for of, name, *said in rows:
            if of == group:
                same.setdefault(tuple(said), []).append(name.replace("|", " ").upper())
        lines = [[", ".join(names), *said] for said, names in same.items()]
        parts.append(f"### {title}\n{table(['command', 'answer', 'how, or why', 'cost'], lines)}\n")
    return "\n".join(parts)


def results():
    """{application: its scenarios}, as the tests left them."""
    found = {}
    for file in sorted(RESULTS.glob("*.jsonl")):
        for line in file.read_text().splitlines():
            result = json.loads(line)
            found.setdefault(result["application"], []).append(result)
    if missing := [name for name in APPLICATIONS if name not in found]:
        raise Wrong(f"{RESULTS} has no results of: {', '.join(missing)}. Run ./test first.")
    if unknown := found.keys() - set(APPLICATIONS):
        raise Wrong(f"{RESULTS} has results of what is not expected: {', '.join(unknown)}")
    return {name: found[name] for name in APPLICATIONS}


def application_table(found, answered):
    lines, wrong = [], []
    for name, scenarios in found.items():
        versions = ", ".join(f"{of} {version}" for of, version in scenarios[0]["versions"].items())
        answers = sum(result["answers"] for result in scenarios)
        differs = {label: why for result in scenarios for label, why in result["differs"].items()}
        sent = {command for result in scenarios if not result["differs"]
                for command in result["commands"]}
        if missing := sorted(sent - answered):
            wrong.append(f"{name} sends {missing}, which is not answered, and sees no difference")
        said = f"all {answers} answers alike"
        if differs:
            said = f"{answers - len(differs)} of {answers} answers alike"
        shown = "; ".join(f"{', '.join(label for label in differs if differs[label] == why)}: {why}"
                          for why in dict.fromkeys(differs.values()))
        lines.append([name, versions, scenarios[0]["exercised"], said, shown or "none"])
    if wrong:
        raise Wrong("\n".join(wrong))
    return table(["application", "versions", "what is exercised", "result", "differences"], lines)


def commands_of_applications(found, answered):
    lines = []
    for name, scenarios in found.items():
        sent = {command for result in scenarios for command in result["commands"]} & answered
        lines.append([name, ", ".join(sorted(one.replace("|", " ").upper() for one in sent))])
    return table(["application", "commands that redis-server counted"], lines)


def counts(rows):
    answers = [answer for _, _, answer, _, _ in rows]
    said = {one: answers.count(one) for one in ("full", "differs", "refused", "not yet", "more")}
    return (f"Of {len(rows) - said['more']} commands and subcommands of Redis {REDIS_VERSION}, "
            f"{said['full']} are answered in full and {said['differs']} with a difference; "
            f"{said['refused']} are refused and {said['not yet']} not there yet.")


def read_notes():
    return tomllib.loads((HERE / "notes.toml").read_text())


def document():
    found = results()
    redis_server, scatterhoard = RedisServer(), None
    try:
        scatterhoard = Scatterhoard()
        rows, answered = judge(redis_server, scatterhoard, read_notes())
    finally:
        redis_server.stop()
        if scatterhoard:
            scatterhoard.stop()
    template = (HERE / "template.md").read_text()
    return template.format(
        version=REDIS_VERSION, counts=counts(rows), commands=command_tables(rows),
        applications=application_table(found, answered),
        sent=commands_of_applications(found, answered),
    )


def main(arguments):
    try:
        made = document()
    except Wrong as error:
        print(error, file=sys.stderr)
        return 1
    if arguments == ["--write"]:
        DOCUMENT.write_text(made)
        return 0
    if arguments:
        print(__doc__, file=sys.stderr)
        return 2
    there = DOCUMENT.read_text() if DOCUMENT.exists() else ""
    changes = list(difflib.unified_diff(there.splitlines(), made.splitlines(), str(DOCUMENT),
                                        "what this run makes", lineterm=""))
    if changes:
        print("\n".join(changes))
        print("\ndocs/compatibility.md is not what this run makes: after ./test, run "
              "target/peers/py/bin/python tests/peers/compatibility/generate.py --write")
    return bool(changes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
