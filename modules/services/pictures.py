"""The picture index: what the gallery shows, in SQLite, rebuildable from the files at any time."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modules.core.errors import PictureMissing
from modules.services.database import Database, Migrations
from modules.services.provenance import Contents

TRASH = ".inferenz/trash/"  # below outputs/, with the path a picture had
_SEARCHED = ("prompt", "checkpoint", "sampler", "path")
_LAST_ID = 2**63 - 1  # SQLite's greatest

MIGRATIONS: Migrations = (
    (
        # seed is text: SQLite's integers end at 2**63 - 1 and seeds at 2**64 - 1
        """CREATE TABLE pictures (
            id INTEGER PRIMARY KEY AUTOINCREMENT, path TEXT NOT NULL UNIQUE, created REAL NOT NULL,
            width INTEGER NOT NULL, height INTEGER NOT NULL, seed TEXT, prompt TEXT NOT NULL,
            negative_prompt TEXT NOT NULL, checkpoint TEXT NOT NULL, sampler TEXT NOT NULL, steps INTEGER NOT NULL,
            infotext TEXT NOT NULL, plan TEXT, job TEXT NOT NULL, number INTEGER NOT NULL, bytes INTEGER NOT NULL,
            mtime_ns INTEGER NOT NULL, trashed INTEGER NOT NULL, favourite INTEGER NOT NULL
        )""",
        "CREATE INDEX pictures_newest ON pictures (trashed, created DESC, id DESC)",
        "CREATE INDEX pictures_favourite ON pictures (trashed, favourite, created DESC, id DESC)",
        "CREATE INDEX pictures_job ON pictures (job, number)",
        "CREATE TABLE folders (folder TEXT PRIMARY KEY, last INTEGER NOT NULL) WITHOUT ROWID",
    ),
    (
        # An index made anew, or in another folder, must not give ids that browsers keep pictures of (for good) or that
        # ended jobs name: ids start from the time, a thousand a second, which stays far below a browser's 2**53
        "DELETE FROM sqlite_sequence WHERE name = 'pictures'",
        "INSERT INTO sqlite_sequence VALUES ('pictures', CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER))",
    ),
)


@dataclass(frozen=True, kw_only=True)
class PictureRecord:
    """One picture of the history. path: relative to outputs/, with forward slashes. created: seconds since 1970.

    seed: None and steps: 0 where the file does not say. sampler: the label. plan: `parse_plan` makes the picture's
    plan of it; None for pictures of other programs. job, index: which picture of which job. bytes: of the file.
    """

    id: int
    path: str
    created: float
    width: int
    height: int
    seed: int | None
    prompt: str
    negative_prompt: str
    checkpoint: str
    sampler: str
    steps: int
    infotext: str
    plan: dict[str, Any] | None
    favourite: bool
    trashed: bool
    job: str
    index: int
    bytes: int
    mtime_ns: int


def favourite_key(job: str, index: int, path: str) -> str:
    """What a favourite is remembered by: the same after the index is rebuilt or the picture was in the trash."""
    return f"{job}/{index}" if job else path.removeprefix(TRASH)


class PictureIndex(Database):
    """The index at `path`. full_text False: search by LIKE, as where SQLite was built without FTS5."""

    def __init__(self, path: Path, *, full_text: bool = True) -> None:
        super().__init__(path, MIGRATIONS)
        try:
            self.full_text = full_text and self._has_fts5()
            self._prepare_search()
        except BaseException:
            self.close()
            raise

    def put(self, found: Iterable[tuple[str, Contents, int, int, float]], favourites: Collection[str]) -> list[int]:
        """Insert or replace pictures in one transaction; returns their ids, which a replaced picture keeps.

        found: path, contents, bytes, mtime_ns, and the created time where the contents do not say. favourites: keys.
        """
        ids = []
        with self.write() as connection:
            for path, made, size, mtime_ns, created in found:
                values = {
                    "path": path,
                    "created": created if made.created is None else made.created,
                    "width": made.width,
                    "height": made.height,
                    "seed": None if made.seed is None else str(made.seed),
                    "prompt": made.prompt,
                    "negative_prompt": made.negative_prompt,
                    "checkpoint": made.checkpoint,
                    "sampler": made.sampler,
                    "steps": made.steps,
                    "infotext": made.infotext,
                    "plan": None if made.plan is None else json.dumps(made.plan),
                    "job": made.job,
                    "number": made.index,
                    "bytes": size,
                    "mtime_ns": mtime_ns,
                    "trashed": path.startswith(TRASH),
                    "favourite": favourite_key(made.job, made.index, path) in favourites,
                }
                ids.append(_upsert(connection, values))
        return ids

    def get(self, picture: int) -> PictureRecord:
        """One picture. Raises PictureMissing."""
        row = self.row("SELECT * FROM pictures WHERE id = ?", (picture,)) if 0 <= picture <= _LAST_ID else None
        if row is None:
            raise PictureMissing(f"There is no picture {picture} in the history.")
        return _record(row)

    def of_job(self, job: str) -> tuple[PictureRecord, ...]:
        """A job's pictures, in its order."""
        return tuple(map(_record, self.rows("SELECT * FROM pictures WHERE job = ? ORDER BY number, id", (job,))))

    def page(
        self, before: int | None, limit: int, *, favourites: bool = False, trash: bool = False, query: str = ""
    ) -> tuple[PictureRecord, ...]:
        """Newest first, from after picture `before` on."""
        where, values = self._where(favourites, trash, query)
        if before is not None:
            before = max(0, min(before, _LAST_ID))
            # A picture that has been deleted since still marks its place by its neighbour's
            row = self.row("SELECT created, id FROM pictures WHERE id <= ? ORDER BY id DESC LIMIT 1", (before,))
            if row is None:
                return ()
            where += " AND (created, id) < (?, ?)"
            values += [row["created"], row["id"] + (row["id"] != before)]
        sql = f"SELECT * FROM pictures WHERE {where} ORDER BY created DESC, id DESC LIMIT ?"
        return tuple(map(_record, self.rows(sql, [*values, limit])))

    def count(self, *, favourites: bool = False, trash: bool = False, query: str = "") -> int:
        """How many pictures `page` would give in all."""
        where, values = self._where(favourites, trash, query)
        row = self.row(f"SELECT count(*) FROM pictures WHERE {where}", values)
        return int(row[0]) if row else 0

    def known(self) -> Mapping[str, tuple[int, int]]:
        """Every indexed path -> (bytes, mtime_ns)."""
        rows = self.rows("SELECT path, bytes, mtime_ns FROM pictures")
        return {row["path"]: (row["bytes"], row["mtime_ns"]) for row in rows}

    def trashed(self) -> tuple[PictureRecord, ...]:
        return tuple(map(_record, self.rows("SELECT * FROM pictures WHERE trashed = 1 ORDER BY id")))

    def move(self, picture: int, path: str) -> None:
        """The picture's file is at `path` now."""
        with self.write() as connection:
            # Of a file that was there and is gone, or that the indexer found before we came to say so
            connection.execute("DELETE FROM pictures WHERE path = ? AND id <> ?", (path, picture))
            connection.execute(
                "UPDATE pictures SET path = ?, trashed = ? WHERE id = ?", (path, path.startswith(TRASH), picture)
            )

    def set_favourite(self, picture: int, favourite: bool) -> None:
        with self.write() as connection:
            connection.execute("UPDATE pictures SET favourite = ? WHERE id = ?", (favourite, picture))

    def align_favourites(self, favourites: Collection[str]) -> None:
        """Mark exactly these keys: a process may have been killed between the two databases."""
        rows = self.rows("SELECT id, job, number, path, favourite FROM pictures")
        wrong = [
            (not row["favourite"], row["id"])
            for row in rows
            if (favourite_key(row["job"], row["number"], row["path"]) in favourites) != bool(row["favourite"])
        ]
        if wrong:
            with self.write() as connection:
                connection.executemany("UPDATE pictures SET favourite = ? WHERE id = ?", wrong)

    def forget(self, paths: Iterable[str]) -> None:
        """These files are gone."""
        with self.write() as connection:
            connection.executemany("DELETE FROM pictures WHERE path = ?", [(path,) for path in paths])

    def next_number(self, folder: str, least: int) -> int:
        """The next running number of a day folder, unlike any given before, here or in another process."""
        with self.write() as connection:
            row = connection.execute("SELECT last FROM folders WHERE folder = ?", (folder,)).fetchone()
            number = max(least, row["last"] + 1 if row else 0)
            connection.execute("INSERT OR REPLACE INTO folders VALUES (?, ?)", (folder, number))
        return number

    def _where(self, favourites: bool, trash: bool, query: str) -> tuple[str, list[Any]]:
        where, values = "trashed = ?", list[Any]([int(trash)])
        if favourites:
            where += " AND favourite = 1"
        words = query.split()[:32]
        if words and self.full_text and all(_indexable(word) for word in words):
            where += " AND id IN (SELECT rowid FROM search WHERE search MATCH ?)"
            quoted = (word.replace('"', '""') for word in words)
            values.append(" ".join(f'"{word}"*' for word in quoted))
        else:
            for word in words:
                where += " AND (" + " OR ".join(f"{column} LIKE ? ESCAPE '!'" for column in _SEARCHED) + ")"
                escaped = word.replace("!", "!!").replace("%", "!%").replace("_", "!_")
                values += [f"%{escaped}%"] * len(_SEARCHED)
        return where, values

    def _has_fts5(self) -> bool:
        return self.row("SELECT 1 FROM pragma_module_list WHERE name = 'fts5'") is not None

    def _prepare_search(self) -> None:
        exists = self.row("SELECT 1 FROM sqlite_master WHERE name = 'search_insert'") is not None
        if exists == self.full_text:
            return
        columns = ", ".join(_SEARCHED)
        old, new = (", ".join(f"{row}.{column}" for column in _SEARCHED) for row in ("old", "new"))
        add = f"INSERT INTO search (rowid, {columns}) VALUES (new.id, {new});"
        drop = f"INSERT INTO search (search, rowid, {columns}) VALUES ('delete', old.id, {old});"
        with self.write() as connection:
            for name in ("search_insert", "search_delete", "search_update"):
                connection.execute(f"DROP TRIGGER IF EXISTS {name}")
            if not self.full_text:  # the table itself cannot be dropped without FTS5: it is filled anew later
                return
            connection.execute("DROP TABLE IF EXISTS search")
            connection.execute(
                f"CREATE VIRTUAL TABLE search USING fts5({columns}, content = 'pictures', content_rowid = 'id', "
                "tokenize = 'unicode61 remove_diacritics 2', prefix = '2 3')"
            )
            connection.execute("INSERT INTO search (search) VALUES ('rebuild')")
            connection.execute(f"CREATE TRIGGER search_insert AFTER INSERT ON pictures BEGIN {add} END")
            connection.execute(f"CREATE TRIGGER search_delete AFTER DELETE ON pictures BEGIN {drop} END")
            connection.execute(
                f"CREATE TRIGGER search_update AFTER UPDATE OF {columns} ON pictures BEGIN {drop} {add} END"
            )


def _indexable(word: str) -> bool:
    """Whether the full-text index finds `word` as people expect: a script without blanks is one long word to it."""
    return any(character.isalnum() for character in word) and not any(character > "\u2e7f" for character in word)


def _upsert(connection: sqlite3.Connection, values: Mapping[str, Any]) -> int:
    names: Sequence[str] = tuple(values)
    changes = ", ".join(f"{name} = excluded.{name}" for name in names if name != "path")
    connection.execute(
        f"INSERT INTO pictures ({', '.join(names)}) VALUES ({', '.join('?' * len(names))}) "
        f"ON CONFLICT (path) DO UPDATE SET {changes}",
        tuple(values.values()),
    )
    row = connection.execute("SELECT id FROM pictures WHERE path = ?", (values["path"],)).fetchone()
    return int(row["id"])


def _record(row: sqlite3.Row) -> PictureRecord:
    values = dict(row)
    return PictureRecord(
        **values
        | {
            "seed": None if values["seed"] is None else int(values["seed"]),
            "plan": None if values["plan"] is None else json.loads(values["plan"]),
            "favourite": bool(values["favourite"]),
            "trashed": bool(values["trashed"]),
            "index": values.pop("number"),
        }
    )
