"""Settings: checked, stored, told to subscribers."""

from __future__ import annotations

import json
import threading

import pytest

from modules.core.errors import RequestError
from modules.services.settings import SPECS, Settings, checked
from modules.services.state import StateDatabase


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_each_default_is_accepted_and_described(spec: object) -> None:
    assert spec in SPECS
    for each in SPECS:
        assert checked(each, each.default) == each.default
        assert each.label
        assert each.accepted
        if each.kind in {"int", "float"}:
            assert each.low is not None
            assert each.high is not None


def test_values_survive_the_database_being_opened_again(state: StateDatabase) -> None:
    settings = Settings(state)
    settings.set("preview_ms", "500")
    settings.set("theme", "dark")
    settings.set("strict", True)
    again = Settings(state)
    assert (again.get("preview_ms"), again.get("theme"), again.get("strict")) == (500, "dark", True)
    assert again.reset("theme") == "system"
    assert [row["name"] for row in state.rows("SELECT name FROM settings ORDER BY name")] == ["preview_ms", "strict"]


@pytest.mark.parametrize(
    ("name", "value", "accepted"),
    [
        ("preview_ms", 5001, "a whole number from 0 to 5000"),
        ("preview_ms", -1, "a whole number from 0 to 5000"),
        ("preview_ms", 1.5, "a whole number from 0 to 5000"),
        ("preview_ms", True, "a whole number from 0 to 5000"),
        ("preview_ms", "soon", "a whole number from 0 to 5000"),
        ("preview_ms", None, "a whole number from 0 to 5000"),
        ("cache_gb", float("nan"), "a number from 0 to 1024"),
        ("cache_gb", float("inf"), "a number from 0 to 1024"),
        ("theme", "pink", "system, dark, light"),
        ("theme", ["dark"], "system, dark, light"),
        ("strict", "maybe", "true or false"),
        ("strict", 1, "true or false"),
        ("vae", "x" * 401, "text of at most 400 characters"),
        ("vae", "a\0b", "text of at most 400 characters"),
    ],
)
def test_a_wrong_value_is_refused_by_name(state: StateDatabase, name: str, value: object, accepted: str) -> None:
    settings = Settings(state)
    with pytest.raises(RequestError) as caught:
        settings.set(name, value)
    assert caught.value.field == name
    assert caught.value.accepted == accepted
    assert len(str(caught.value)) < 300
    assert settings.get(name) == settings.spec(name).default


def test_an_unknown_name_is_refused(state: StateDatabase) -> None:
    with pytest.raises(RequestError, match="no such setting"):
        Settings(state).set("colour", "red")


def test_several_values_are_all_or_none(state: StateDatabase) -> None:
    settings = Settings(state)
    with pytest.raises(RequestError):
        settings.update({"theme": "dark", "preview_ms": -5})
    assert settings.get("theme") == "system"


def test_subscribers_hear_of_changes_only(state: StateDatabase) -> None:
    settings = Settings(state)
    heard: list[tuple[str, object]] = []
    end = settings.subscribe(lambda name, value: heard.append((name, value)))
    settings.set("theme", "dark")
    settings.set("theme", "dark")
    end()
    settings.set("theme", "light")
    assert heard == [("theme", "dark")]


def test_stored_values_that_no_longer_fit_fall_back_to_the_default(state: StateDatabase) -> None:
    with state.write() as connection:
        connection.execute("INSERT INTO settings VALUES ('preview_ms', ?)", (json.dumps(99999),))
        connection.execute("INSERT INTO settings VALUES ('of_a_plug_in', '1')")
        connection.execute("INSERT INTO settings VALUES ('theme', 'not json')")
    assert Settings(state).get("preview_ms") == 250
    assert Settings(state).get("theme") == "system"


def test_threads_may_write_together(state: StateDatabase) -> None:
    settings = Settings(state)
    threads = [threading.Thread(target=settings.set, args=("preview_ms", n)) for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert settings.get("preview_ms") == Settings(state).get("preview_ms")


@pytest.mark.parametrize(("name", "value"), [("preview_ms", 10**400), ("cache_gb", -(10**400)), ("cache_gb", "1e999")])
def test_numbers_beyond_all_measure_are_refused(state: StateDatabase, name: str, value: object) -> None:
    with pytest.raises(RequestError, match=name):
        Settings(state).set(name, value)
