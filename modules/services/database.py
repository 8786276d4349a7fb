"""One SQLite file: a connection per thread, one writer at a time, schema numbers and migrations."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from modules.core.errors import StorageError

# One entry per schema number, each a sequence of statements; a published entry is never changed.
Migrations = Sequence[Sequence[str]]
_BUSY_SECONDS = 30.0  # another process (the command line beside the server) may hold the write lock


class Database:
    """A database file, brought to the newest schema when opened. Safe to use from any thread until `close()`.

    Raises StorageError where the file cannot be opened, is no database, or was written by a newer Inferenz.
    """

    def __init__(self, path: Path, migrations: Migrations) -> None:
        self.path = path
        self._migrations = migrations
        self._writing = threading.RLock()
        self._opening = threading.Lock()
        self._connections: dict[threading.Thread, sqlite3.Connection] = {}
        self._closed = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"The folder {path.parent} cannot be made: {error.strerror or error}.") from error
        try:
            self._migrate()
        except BaseException:
            self.close()
            raise

    def connection(self) -> sqlite3.Connection:
        """This thread's connection, in autocommit mode; write through `write()`."""
        thread = threading.current_thread()
        found = self._connections.get(thread)
        if found is not None:
            return found
        with self._opening:
            if self._closed:
                raise StorageError(f"{self.path.name} is closed.")
            for gone in [other for other in self._connections if not other.is_alive()]:
                self._connections.pop(gone).close()
            connection = self._open()
            self._connections[thread] = connection
            return connection

    @contextmanager
    def write(self) -> Iterator[sqlite3.Connection]:
        """A transaction: committed at the end of the block, rolled back by any exception. May be nested.

        Raises StorageError for what SQLite reports (disk full, read-only, locked for longer than half a minute).
        """
        with self._writing, self._told():
            connection = self.connection()
            if connection.in_transaction:
                yield connection
                return
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def rows(self, sql: str, values: Sequence[Any] = ()) -> list[sqlite3.Row]:
        """All rows of a question. Raises StorageError for what SQLite reports."""
        with self._told(), closing(self.connection().execute(sql, values)) as cursor:
            return cursor.fetchall()

    def row(self, sql: str, values: Sequence[Any] = ()) -> sqlite3.Row | None:
        """The first row of a question, or None."""
        found = self.rows(sql, values)
        return found[0] if found else None

    def close(self) -> None:
        """Close every thread's connection. Call it when no other thread uses the database any more."""
        with self._opening:
            self._closed = True
            for connection in self._connections.values():
                connection.close()
            self._connections.clear()

    def _open(self) -> sqlite3.Connection:
        with self._told():
            connection = sqlite3.connect(
                self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False
            )
            try:
                connection.row_factory = sqlite3.Row
                _use_wal(connection)
                # In WAL mode NORMAL survives a killed process; a power cut may cost the last moments, never the file
                connection.execute("PRAGMA synchronous = NORMAL")
            except BaseException:
                connection.close()
                raise
            return connection

    def _migrate(self) -> None:
        newest = len(self._migrations)
        if self._schema() == newest:
            return
        with self.write() as connection:
            schema = self._schema()  # again: another process may have been first
            if schema > newest:
                raise StorageError(
                    f"{self.path} was written by a newer version of Inferenz (schema {schema}, known up to {newest}).",
                    hint="Update Inferenz, or choose another --data-dir.",
                )
            for statements in self._migrations[schema:]:
                for statement in statements:
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {newest}")

    def _schema(self) -> int:
        row = self.row("PRAGMA user_version")
        return int(row[0]) if row else 0

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise StorageError(f"The database {self.path} cannot be used: {error}.", hint=_hint(str(error))) from error


def _use_wal(connection: sqlite3.Connection) -> None:
    """Write-ahead logging: readers never wait. SQLite does not wait by itself while another process switches too."""
    end = time.monotonic() + _BUSY_SECONDS
    while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return  # a file system without shared memory keeps its mode, and works too
        except sqlite3.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)


def _hint(message: str) -> str:
    if "full" in message:
        return "Free some disk space and try again."
    if "not a database" in message or "malformed" in message:
        return "The file is damaged: move it away and start again."
    if "locked" in message:
        return "Another program holds it for too long."
    return "Check the folder's permissions and free space."
