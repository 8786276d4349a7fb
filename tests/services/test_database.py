"""The database under state and picture index: migrations, transactions, threads, other processes' files."""

from __future__ import annotations

import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from modules.core.errors import StorageError
from modules.services.database import Database
from modules.services.state import StateDatabase

ONE = (("CREATE TABLE words (word TEXT)",),)
TWO = (*ONE, ("ALTER TABLE words ADD COLUMN language TEXT NOT NULL DEFAULT 'en'",))


def test_an_older_file_is_brought_up(tmp_path: Path) -> None:
    first = Database(tmp_path / "a.sqlite3", ONE)
    with first.write() as connection:
        connection.execute("INSERT INTO words VALUES ('apple')")
    first.close()
    second = Database(tmp_path / "a.sqlite3", TWO)
    row = second.row("SELECT * FROM words")
    assert row is not None
    assert tuple(row) == ("apple", "en")
    second.close()
    with pytest.raises(StorageError, match="newer version"):
        Database(tmp_path / "a.sqlite3", ONE)


def test_a_failing_migration_changes_nothing(tmp_path: Path) -> None:
    with pytest.raises(StorageError):
        Database(tmp_path / "a.sqlite3", (("CREATE TABLE good (x)", "CREATE NONSENSE"),))
    with closing(sqlite3.connect(tmp_path / "a.sqlite3")) as plain:
        assert plain.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)


def test_an_error_rolls_the_whole_block_back(tmp_path: Path) -> None:
    database = Database(tmp_path / "a.sqlite3", ONE)

    def fail() -> None:
        with database.write() as connection:
            connection.execute("INSERT INTO words VALUES ('apple')")
            with database.write() as inner:
                inner.execute("INSERT INTO words VALUES ('pear')")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert database.rows("SELECT * FROM words") == []
    database.close()


def test_a_foreign_file_is_told_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "a.sqlite3").write_bytes(b"no database at all, but long enough to be looked at" * 40)
    with pytest.raises(StorageError, match="damaged"):
        StateDatabase(tmp_path / "a.sqlite3")


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError, match="cannot be made"):
        StateDatabase(tmp_path / "file" / "state.sqlite3")


def test_threads_have_their_own_connections_and_ended_ones_are_closed(tmp_path: Path) -> None:
    database = Database(tmp_path / "a.sqlite3", ONE)
    seen: list[sqlite3.Connection] = []

    def write() -> None:
        with database.write() as connection:
            connection.execute("INSERT INTO words VALUES ('apple')")
            seen.append(connection)

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(database.rows("SELECT * FROM words")) == 8
    late = threading.Thread(target=write)
    late.start()
    late.join()
    with pytest.raises(sqlite3.ProgrammingError):
        seen[0].execute("SELECT 1")
    database.close()
    with pytest.raises(StorageError, match="closed"):
        database.rows("SELECT 1")
