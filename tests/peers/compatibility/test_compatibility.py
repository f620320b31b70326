"""docs/compatibility.md is what this run makes of the proxy, the notes and the results."""

import pytest

import generate
from servers import RedisServer, Scatterhoard


@pytest.fixture(scope="module")
def servers():
    redis_server, scatterhoard = RedisServer(), Scatterhoard()
    yield redis_server, scatterhoard
    scatterhoard.stop()
    redis_server.stop()


def wrong(servers, change):
    """What is said of the notes after a change."""
    notes = generate.read_notes()
    change(notes)
    with pytest.raises(generate.Wrong) as raised:
        generate.judge(*servers, notes)
    return str(raised.value)


def test_a_missing_command_needs_a_reason(servers):
    assert "xadd is not answered" in wrong(servers, lambda notes: notes["groups"].pop("stream"))


def test_a_note_names_a_command(servers):
    said = wrong(servers, lambda notes: notes["commands"].update({"gett": {"differs": "somehow"}}))
    assert said == "notes.toml names what is no command: ['gett']"
    said = wrong(servers, lambda notes: notes["groups"].update({"strings": {"cost": "much"}}))
    assert said == "notes.toml names what is no group: ['strings']"
    said = wrong(servers, lambda notes: notes["commands"].update({"get": {}, "set get": {}}))
    assert said.startswith("two notes on ")


def test_what_is_answered_is_not_refused(servers):
    said = wrong(servers, lambda notes: notes["commands"].update({"get": {"refused": "why not"}}))
    assert said == "get is answered, and notes.toml says why it is refused"


def test_an_application_sends_what_is_answered(servers):
    found = {"some": [{"versions": {"some": "1"}, "answers": 1, "commands": ["get", "xadd"],
                       "exercised": "little", "differs": {}}]}
    _, answered = generate.judge(*servers, generate.read_notes())
    with pytest.raises(generate.Wrong, match=r"some sends \['xadd'\], which is not answered"):
        generate.application_table(found, answered)


def test_the_document_is_what_this_run_makes(capsys):
    code = generate.main([])
    said = capsys.readouterr()
    assert code == 0, f"{said.out}{said.err}"
