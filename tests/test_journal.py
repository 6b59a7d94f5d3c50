"""The journal: what was sent is on disk, numbers are never used twice, and a sick disk does not stop the program."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from serving import as_sent, event

from stream.errors import UserError
from stream.protocol.log import EVERYTHING, Cursor, Entry, Missing
from stream.protocol.ulid import is_ulid, new_ulid
from stream.server.journal import Journal, with_gaps
from stream.server.retention import Retention

ROOT = Path(__file__).parent.parent
ENVIRON = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests")])}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state" / "journal.sqlite"


def entries(journal, cursor=EVERYTHING, limit=1000):
    return journal.read_after(cursor, limit)[0]


def test_a_new_run_is_a_new_epoch_and_serves_the_old_ones_unchanged(path):
    first = Journal(path)
    stored = first.append([event(1), event(2)])
    first.close()
    second = Journal(path)
    stored += second.append([event(3)])
    assert entries(second) == stored
    assert [(entry.epoch, entry.seq) for entry in stored] == [(first.epoch, 1), (first.epoch, 2), (second.epoch, 1)]
    assert json.loads(stored[0].body) == as_sent(event(1), first.epoch, 1)
    assert first.epoch < second.epoch
    second.close()


@given(st.lists(st.integers(0, 2**47), max_size=20))
def test_ulids_rise_whatever_the_clock_does(times_ms):
    newest = ""
    for time_ms in times_ms:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "time_ns", lambda ms=time_ms: ms * 1_000_000)
            made = new_ulid(newest)
        assert is_ulid(made)
        assert made > newest
        newest = made


LOGS = st.lists(st.tuples(st.integers(0, 8), st.sets(st.integers(1, 8))), min_size=1, max_size=4)


@given(LOGS, st.permutations("ABCD"), st.integers(0, 3), st.integers(0, 9), st.integers(1, 5))
def test_reading_on_yields_every_stored_event_once_and_names_every_other(log, names, at_epoch, at_seq, page):
    """Against brute force: any stored and lost events in epochs of any names, from any cursor, in pages of any size."""
    last_seqs = {name: max([last, *stored]) for name, (last, stored) in zip(names, log, strict=False)}
    rows = [Entry(name, seq, "") for name, (_, stored) in zip(names, log, strict=False) for seq in sorted(stored)]
    every = [(name, seq) for name, last in last_seqs.items() for seq in range(1, last + 1)]
    cursor = Cursor(names[min(at_epoch, len(log) - 1)], at_seq)
    own = [seq for name, seq in every if name == cursor.epoch]
    behind = every[next((i for i, (name, _) in enumerate(every) if name == cursor.epoch), 0) :]
    wanted = [(name, seq) for name, seq in behind if name != cursor.epoch or seq > at_seq]
    if not own:  # the epoch gave out nothing: what follows is what its successors gave out
        order = list(last_seqs)
        wanted = [(name, seq) for name, seq in every if order.index(name) > order.index(cursor.epoch)]
    place, seen, end = {key: i for i, key in enumerate(wanted)}, [], Cursor(list(last_seqs)[-1], 0)
    end = Cursor(end.epoch, last_seqs[end.epoch])
    ahead = [row for row in rows if row[:2] in place]
    while True:
        given_rows, ahead = ahead[:page], ahead[page:]
        items, cursor = with_gaps(cursor, given_rows, last_seqs, Cursor(*given_rows[-1][:2]) if ahead else end)
        for item in items:
            span = [item.seq] if isinstance(item, Entry) else range(item.first, item.last + 1)
            seen += [(item.epoch, seq, isinstance(item, Entry)) for seq in span]
        if not ahead:
            break
    assert seen == [(*key, Entry(*key, "") in rows) for key in wanted]


RUNS = st.lists(st.tuples(st.integers(-40, 40), st.integers(0, 5), st.booleans()), min_size=1, max_size=5)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(RUNS, st.data())
def test_no_event_is_hidden_without_a_gap_whatever_the_clocks_said(tmp_path_factory, runs, data):
    """Real journals. Each run has its own clock (days off) and may start without its file; from any cursor, in pages
    of any size, each event ever stored comes once or is named as missing, in the order of storing."""
    path, stored = tmp_path_factory.mktemp("journal") / "state" / "j.sqlite", []
    for days, count, late in runs:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(time, "time", lambda days=days: 1.8e9 + 86400 * days)
            patch.setattr(time, "time_ns", lambda days=days: int((1.8e9 + 86400 * days) * 1e9))
            with out_of_reach(path) if late else nullcontext():
                journal = Journal(path)
                assert (journal.degraded is not None) == late
            stored += journal.append([event(n) for n in range(count)])
            journal.prune(time.time())
            cursors = [Cursor(*entry[:2]) for entry in stored]
            cursor = data.draw(st.sampled_from([Cursor(journal.epoch, 0), *cursors]))
            page = data.draw(st.integers(1, 4))
            if journal.degraded is None:
                seen, start, before = set(), cursor, None
                while cursor != before:
                    before, (items, cursor) = cursor, journal.read_after(cursor, page)
                    for item in items:
                        span = [item.seq] if isinstance(item, Entry) else range(item.first, item.last + 1)
                        for seq in span:
                            assert (item.epoch, seq) not in seen
                            seen.add((item.epoch, seq))
                behind = cursors[cursors.index(start) + 1 :] if start in cursors else cursors[len(cursors) - count :]
                assert seen == set(behind)
            journal.close()


@contextmanager
def out_of_reach(path):
    """The journal's folder is away, and in its place is a file."""
    aside = path.parent.with_name("aside")
    path.parent.mkdir(exist_ok=True)
    path.parent.rename(aside)
    path.parent.write_text("")
    yield
    path.parent.unlink()
    aside.rename(path.parent)


def test_a_cursor_of_an_epoch_that_nobody_knows_is_told_so(path):
    journal = Journal(path)
    stored = journal.append([event(1)])
    foreign = "00000000000000000000000000"
    assert entries(journal, Cursor(foreign, 5)) == [Missing(foreign, 6, None), *stored]
    journal.close()


WRITER = """
import sys
from pathlib import Path
from serving import event
from stream.server.journal import Journal
journal = Journal(Path(sys.argv[1]))
number = 0
while True:
    for entry in journal.append([event(number + i) for i in range(number % 3 + 1)]):
        print(entry.epoch, entry.seq, entry.body, flush=True)  # this is what "sent" means here
    number += 1
"""


@pytest.mark.slow
def test_kill_at_any_point_loses_no_sent_event_and_uses_no_number_twice(path):
    """A real process, killed for real while it writes; six times on the same journal."""
    chance = random.Random(5)
    sent: dict[tuple[str, str], str] = {}
    for _ in range(6):
        writer = subprocess.Popen([sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True, env=ENVIRON)
        lines = [writer.stdout.readline() for _ in range(chance.randrange(1, 60))]
        time.sleep(chance.random() * 0.003)  # anywhere between two commits
        writer.send_signal(signal.SIGKILL)
        lines += writer.stdout.readlines()
        writer.stdout.close()
        writer.wait(20)
        for line in lines:
            if line.endswith("}\n"):
                epoch, seq, body = line.strip().split(" ", 2)
                assert sent.setdefault((epoch, seq), body) == body
    journal = Journal(path)
    stored = {(item.epoch, str(item.seq)): item.body for item in entries(journal, limit=10**6)}
    assert len({epoch for epoch, _ in sent}) == 6
    assert sent.items() <= stored.items()
    assert all(isinstance(item, Entry) for item in entries(journal, limit=10**6))
    journal.close()


def test_a_second_process_is_refused_in_one_line_and_the_first_goes_on(path):
    first = Journal(path)
    command = (
        "import sys; from pathlib import Path; from stream.server.journal import Journal; Journal(Path(sys.argv[1]))"
    )
    second = subprocess.run([sys.executable, "-c", command, path], capture_output=True, text=True, env=ENVIRON)
    assert second.returncode == 1
    assert second.stderr.splitlines()[-1].startswith(f"stream.errors.UserError: journal {path} is in use by another")
    assert "--journal" in second.stderr
    first.append([event(1)])
    assert first.degraded is None
    first.close()
    Journal(path).close()


FULL_DISK = """
import json, resource, sys
from pathlib import Path
from serving import event
from stream.protocol.log import EVERYTHING
from stream.server.journal import Journal
path = Path(sys.argv[1])
journal = Journal(path)
journal.append([event(1)])
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
for number in range(2, 40):
    journal.append([event(number)])
full = journal.degraded
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
journal.append([event(40)])
stored = [entry.seq for entry in journal.read_after(EVERYTHING, 100)[0]]
journal.close()
print(json.dumps([full, journal.degraded, stored]))
"""


def test_a_full_disk_is_reported_and_all_events_are_stored_once_there_is_room(path):
    """The kernel refuses to let the file grow (RLIMIT_FSIZE), then lets it."""
    run = subprocess.run([sys.executable, "-c", FULL_DISK, path], capture_output=True, text=True, env=ENVIRON)
    assert run.returncode == 0, run.stderr
    full, afterwards, stored = json.loads(run.stdout)
    assert full.startswith("journal: events are not being stored")
    assert afterwards is None
    assert stored == list(range(1, 41))


FULL_DISK_AT_RESCUE = """
import json, resource, sys
from pathlib import Path
from serving import event
from stream.server.journal import Journal
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (24576, hard))
journal = Journal(Path(sys.argv[1]))
resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
journal.append([event(1)])
print(json.dumps([journal.rescued, journal.degraded]))
journal.close()
"""


def test_a_rescue_without_room_keeps_the_damaged_file_and_begins_a_new_one(path):
    filled(path)
    craft(path, "UPDATE epochs SET epoch = 'zzzz' WHERE n = 1")
    before = path.read_bytes()
    run = subprocess.run([sys.executable, "-c", FULL_DISK_AT_RESCUE, path], capture_output=True, text=True, env=ENVIRON)
    assert run.returncode == 0, run.stderr
    rescued, degraded = json.loads(run.stdout)
    assert "0 events were rescued (" in rescued
    assert degraded is None
    assert Path(f"{path}.damaged-1").read_bytes() == before
    assert sorted(file.name for file in path.parent.iterdir()) == ["journal.sqlite", "journal.sqlite.damaged-1"]
    journal = Journal(path)
    assert len(entries(journal)) == 1
    journal.close()


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that nobody, root included, can write to")
def test_a_read_only_place_degrades_and_numbering_goes_on():
    journal = Journal(Path("/proc/no-such/journal.sqlite"))
    assert "not being stored" in journal.degraded
    assert [entry.seq for entry in journal.append([event(1), event(2)])] == [1, 2]
    assert entries(journal) == []
    journal.close()


def foreign(path, wal=False, **pragmas):
    with closing(sqlite3.connect(path)) as db:
        if wal:
            db.execute("PRAGMA journal_mode=WAL")
        for name, value in pragmas.items():
            db.execute(f"PRAGMA {name}={value}")
        db.execute("CREATE TABLE recipes (name TEXT)")
        db.execute("INSERT INTO recipes VALUES ('bread')")
        db.commit()


@pytest.mark.parametrize("settings", [{}, {"wal": True}, {"application_id": 7}, {"user_version": 1}])
def test_somebody_elses_database_is_refused_and_stays_byte_for_byte(tmp_path, settings):
    path = tmp_path / "recipes.sqlite"
    foreign(path, **settings)
    before = path.read_bytes()
    with pytest.raises(UserError, match="is not an event journal; move it away or give --journal PATH"):
        Journal(path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["recipes.sqlite"]


def test_somebody_elses_database_is_refused_while_they_write_to_it(tmp_path):
    path = tmp_path / "recipes.sqlite"
    foreign(path, wal=True)
    with closing(sqlite3.connect(path)) as theirs:
        theirs.execute("INSERT INTO recipes VALUES ('soup')")
        theirs.commit()
        before = path.read_bytes()
        with pytest.raises(UserError, match="is not an event journal"):
            Journal(path)
        theirs.execute("INSERT INTO recipes VALUES ('cake')")
        theirs.commit()
        assert path.read_bytes() == before
    with closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT count(*) FROM recipes").fetchone() == (3,)


def test_what_is_not_a_journal_is_left_alone(path, tmp_path):
    path.parent.mkdir()
    path.write_text("dear diary, " * 1000)
    with pytest.raises(UserError, match="is not an event journal"):
        Journal(path)
    assert path.read_text().startswith("dear diary")
    with pytest.raises(UserError, match="is not an event journal"):
        Journal(tmp_path)
    with pytest.raises(UserError, match="can't hold a NUL"):
        Journal(tmp_path / "a\0b")
    newer = tmp_path / "newer.sqlite"
    Journal(newer).close()
    with closing(sqlite3.connect(newer)) as db:
        db.execute("PRAGMA user_version=99")
    with pytest.raises(UserError, match="newer program"):
        Journal(newer)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such modes")
def test_the_journal_and_what_lies_beside_it_are_private_under_any_umask(path):
    old = os.umask(0)
    try:
        journal = Journal(path)
        journal.append([event(1)])
        modes = {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()}
        journal.close()
        assert modes == {"journal.sqlite": 0o600, "journal.sqlite-wal": 0o600}
        assert path.parent.stat().st_mode & 0o777 == 0o700
        path.chmod(0o644)  # as earlier versions made it
        Journal(path).close()
        assert path.stat().st_mode & 0o777 == 0o600
    finally:
        os.umask(old)


FORMAT_1 = """
CREATE TABLE IF NOT EXISTS epochs (epoch TEXT PRIMARY KEY, pruned_seq INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS events (epoch TEXT NOT NULL, seq INTEGER NOT NULL, time_s REAL NOT NULL, body TEXT NOT NULL,
  PRIMARY KEY (epoch, seq)) WITHOUT ROWID;
"""


@pytest.mark.parametrize("killed", [False, True])
def test_a_journal_of_the_format_before_is_taken_over(path, killed):
    """Also if its writer was killed, so that all of it still lies in the file beside it."""
    epochs = sorted(new_ulid() for _ in range(2))
    body = {(epoch, n): json.dumps(as_sent(event(n), epoch, n)) for epoch in epochs for n in (3, 4)}
    path.parent.mkdir()
    code = f"""
import os, sqlite3, time
db = sqlite3.connect({str(path)!r}, isolation_level=None)
db.execute("PRAGMA auto_vacuum=INCREMENTAL")
db.execute("PRAGMA locking_mode=EXCLUSIVE")
db.execute("PRAGMA journal_mode=WAL")
db.executescript({f"BEGIN IMMEDIATE; {FORMAT_1} PRAGMA user_version=1; COMMIT"!r})
db.executemany("INSERT INTO epochs VALUES (?, 2)", {[(epoch,) for epoch in epochs]!r})
db.executemany("INSERT INTO events VALUES (?, ?, ?, ?)", [(*key, time.time(), text) for key, text in {body!r}.items()])
{"os._exit(0)" if killed else "db.close()"}
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    journal = Journal(path)
    old = [Entry(*key, text) for key, text in body.items()]
    assert journal.rescued is None
    assert entries(journal) == [*old[:2], Missing(epochs[1], 1, 2), *old[2:]]
    assert entries(journal, Cursor(epochs[0], 0)) == [Missing(epochs[0], 1, 2), *entries(journal)]
    stored = journal.append([event(9)])
    assert entries(journal, Cursor(epochs[1], 4)) == stored
    journal.close()


PAGE_BYTES = 4096


def filled(path):
    """A journal of three runs, closed; its entries."""
    stored = []
    for _ in range(3):
        journal = Journal(path)
        stored += journal.append([event(n) for n in range(60)])
        journal.close()
    return stored


@pytest.mark.parametrize("rubbish", [b"\0", b"\xa5", b"mestream"])
def test_a_damaged_page_costs_what_is_on_it_and_the_damaged_file_is_kept(path, rubbish, caplog):
    """Every page but the first in turn. What can be read comes, all else is named, and both are said once."""
    stored = filled(path)
    whole = path.read_bytes()
    costs = []
    for page in range(1, len(whole) // PAGE_BYTES):
        broken = bytearray(whole)
        broken[page * PAGE_BYTES : (page + 1) * PAGE_BYTES] = (rubbish * PAGE_BYTES)[:PAGE_BYTES]
        path.write_bytes(broken)
        caplog.clear()
        journal = Journal(path)
        new = journal.append([event(99)])
        start = Cursor(stored[0].epoch, 0)
        found, _ = journal.read_after(start, 1000)
        got = [item for item in found if isinstance(item, Entry)]
        missing = {
            (item.epoch, seq)
            for item in found
            if isinstance(item, Missing) and item.last
            for seq in range(item.first, item.last + 1)
        }
        lost = [entry for entry in stored if entry not in got]
        costs.append(len(lost))
        assert got == [entry for entry in stored if entry not in lost] + new
        assert {entry[:2] for entry in lost} <= missing or Missing(start.epoch, 1, None) in found
        assert journal.degraded is None
        if lost:
            aside = Path(f"{path}.damaged-1")
            assert aside.read_bytes()[page * PAGE_BYTES :][:PAGE_BYTES] == broken[page * PAGE_BYTES :][:PAGE_BYTES]
            assert str(aside) in journal.rescued
            assert [record.message for record in caplog.records] == [journal.rescued]
        journal.close()
        again = Journal(path)  # what was rescued is whole
        assert again.rescued is None
        assert [item for item in entries(again) if isinstance(item, Entry)] == got
        again.close()
        for file in path.parent.iterdir():
            file.unlink()
    root, *others = sorted(costs, reverse=True)
    assert root == len(stored)  # without it no page of events can be found
    assert 0 < others[0] <= 12  # one page of events


def test_damage_that_is_found_while_running_is_mended_while_running(path):
    stored = filled(path)
    whole = bytearray(path.read_bytes())
    number = whole.index(stored[70].body.encode()) // PAGE_BYTES
    whole[number * PAGE_BYTES : (number + 1) * PAGE_BYTES] = bytes(PAGE_BYTES)
    path.write_bytes(whole)
    journal = Journal(path)
    assert journal.rescued is None  # the start reads only what it needs
    got = [item for item in entries(journal, Cursor(stored[0].epoch, 0)) if isinstance(item, Entry)]
    assert len(stored) - 12 <= len(got) < len(stored)
    assert "the damaged file is kept as" in journal.rescued
    assert journal.degraded is None
    new = journal.append([event(99)])
    assert entries(journal, Cursor(*stored[-1][:2])) == new
    journal.close()


CRAFTED = {
    "a number": 5,
    "a blob": b"\xff\xfe",
    "not UTF-8": "CAST(x'ff41' AS TEXT)",
    "NUL": "{\0}",
    "not JSON": "dear diary",
    "a list": "[]",
    "deep": "[" * 60_000,
    "huge": '{"type":"event","x":"' + "x" * 10**7 + '"}',
    "another's number": '{"type":"event","epoch":"EPOCH","seq":7}',
    "another type": '{"type":"hello","epoch":"EPOCH","seq":2}',
}


def craft(path, sql, *values):
    with closing(sqlite3.connect(path)) as db:
        db.execute(sql, values)
        db.commit()


@pytest.mark.parametrize("what", CRAFTED)
def test_a_row_that_is_no_event_is_a_gap(path, what):
    journal = Journal(path)
    stored = journal.append([event(n) for n in range(3)])
    journal.close()
    body = CRAFTED[what]
    if what == "not UTF-8":
        craft(path, f"UPDATE events SET body = {body} WHERE place & 255 = 2")
    else:
        body = body.replace("EPOCH", journal.epoch) if isinstance(body, str) else body
        craft(path, "UPDATE events SET body = ? WHERE place & 255 = 2", body)
    journal = Journal(path)
    gapped = [stored[0], Missing(stored[1].epoch, 2, 2), stored[2]]
    assert entries(journal) == gapped
    found, cursor = [], EVERYTHING
    for _ in range(3):
        items, cursor = journal.read_after(cursor, 1)
        found += items
    assert found == gapped
    assert (journal.degraded, journal.rescued) == (None, None)
    journal.close()


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE epochs SET epoch = 'zzzz'",
        "UPDATE epochs SET epoch = x'00ff'",
        "UPDATE epochs SET last_seq = 'many'",
        "UPDATE epochs SET n = 1 << 50",
        "INSERT INTO epochs SELECT n + 1, epoch, 0 FROM epochs",
        "CREATE TRIGGER t AFTER INSERT ON events BEGIN DELETE FROM events; END",
        "DROP TABLE doubt",
        "DROP TABLE epochs",
    ],
)
def test_tables_that_no_journal_has_are_put_aside_and_the_events_kept(path, sql):
    journal = Journal(path)
    stored = journal.append([event(n) for n in range(3)])
    journal.close()
    craft(path, sql)
    journal = Journal(path)
    assert entries(journal) == stored
    assert "3 events were rescued" in journal.rescued
    assert entries(journal, Cursor(stored[0].epoch, 1)) == stored[1:]
    journal.append([event(9)])
    assert journal.degraded is None
    journal.close()


@pytest.mark.parametrize("time_s", ["'soon'", "x'00'", "1e300", "-1e300"])
def test_a_time_that_is_none_stops_nothing(path, time_s):
    journal = Journal(path)
    journal.append([event(1), event(2)])
    journal.close()
    craft(path, f"UPDATE events SET time_s = {time_s}")
    journal = Journal(path)
    journal.prune(time.time())
    assert journal.degraded is None
    assert len(entries(journal)) == 2
    journal.close()


def test_retention_by_age_lets_the_old_go_and_says_what_is_missing(path):
    journal = Journal(path, Retention(age_s=100))
    journal.append([event(n) for n in range(5)])
    journal.prune(time.time() + 99)
    assert len(entries(journal)) == 5
    journal.prune(time.time() + 101)
    kept = journal.append([event(6)])
    assert entries(journal) == kept
    assert entries(journal, Cursor(journal.epoch, 2)) == [Missing(journal.epoch, 3, 5), *kept]
    assert journal.oldest_seq == 6
    journal.close()
    later = Journal(path, Retention(age_s=-1))  # everything is too old: even the epoch's end must be remembered
    assert entries(later, Cursor(journal.epoch, 4)) == [Missing(journal.epoch, 5, 6)]
    later.close()


def test_retention_by_size_keeps_the_newest_and_gives_the_space_back(path):
    limit = 200_000
    journal = Journal(path, Retention(size_bytes=limit))
    for start in range(0, 3000, 500):
        journal.append([event(n) for n in range(start, start + 500)])
    journal.prune(time.time())
    kept = [entry.seq for entry in entries(journal, limit=5000)]
    assert 0 < len(kept) < 1000
    assert kept == list(range(3001 - len(kept), 3001))
    journal.close()
    assert path.stat().st_size <= limit + 20 * 4096


DAY_S = 86400.0


def at_time(monkeypatch, time_s):
    monkeypatch.setattr(time, "time", lambda: time_s)


def test_one_start_with_a_wrong_clock_removes_nothing_and_says_so(path, monkeypatch, caplog):
    now_s = time.time()
    stored = filled(path)
    at_time(monkeypatch, now_s + 31 * DAY_S + 2 * DAY_S)
    for _ in range(2):  # soon after another, too
        journal = Journal(path)
        assert entries(journal) == stored
        journal.close()
    (said,) = [record.message for record in caplog.records]
    assert "Is the clock right?" in said
    at_time(monkeypatch, now_s)
    Journal(path).close()  # the clock is right again: the doubt is gone
    at_time(monkeypatch, now_s + 33 * DAY_S + 7200)
    journal = Journal(path)
    assert entries(journal) == stored
    journal.close()


def test_a_second_look_an_hour_later_removes_it_and_says_so(path, monkeypatch, caplog):
    caplog.set_level("INFO")
    now_s = time.time()
    stored = filled(path)
    at_time(monkeypatch, now_s + 33 * DAY_S)
    journal = Journal(path)
    assert entries(journal) == stored
    journal.prune(now_s + 33 * DAY_S + 3600)
    assert entries(journal) == []
    assert f"{len(stored)} events that were too old have been removed" in caplog.text
    assert entries(journal, Cursor(stored[0].epoch, 59))[0] == Missing(stored[0].epoch, 60, 60)
    journal.close()


def test_events_of_the_future_do_not_stop_retention(path, monkeypatch):
    now_s = time.time()
    at_time(monkeypatch, now_s + 4000 * DAY_S)
    first = Journal(path)
    first.append([event(n) for n in range(150)])
    first.close()
    at_time(monkeypatch, now_s)
    second = Journal(path)
    second.append([event(n) for n in range(150)])
    second.prune(now_s + 29 * DAY_S)
    assert len(entries(second)) == 300
    second.prune(now_s + 30.5 * DAY_S)
    assert entries(second) == []
    second.close()


def test_what_was_stored_after_a_young_event_is_young(path, monkeypatch):
    """A machine without a battery begins in 1970: its events are not old because of that."""
    now_s = time.time()
    at_time(monkeypatch, now_s - 10 * DAY_S)
    first = Journal(path)
    stored = first.append([event(1)])
    first.close()
    at_time(monkeypatch, 100.0)
    second = Journal(path)
    stored += second.append([event(2)])
    for hours in range(5):
        second.prune(now_s + 3600 * hours)
    assert entries(second) == stored
    second.prune(now_s + 20.5 * DAY_S)
    second.prune(now_s + 20.5 * DAY_S + 3600)
    assert entries(second) == []
    second.close()


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(-50, 50), max_size=12), st.integers(-50, 50))
def test_pruning_keeps_order_and_what_is_young(tmp_path_factory, days, now_day):
    """Any clocks: what goes is the oldest part by storing, holds no young event, and ends in one that is too old."""
    path = tmp_path_factory.mktemp("journal") / "j.sqlite"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: 1.8e9)
        journal = Journal(path)
        for day in days:
            patch.setattr(time, "time", lambda day=day: 1.8e9 + day * DAY_S)
            journal.append([event(1)])
    now_s = 1.8e9 + now_day * DAY_S
    for hours in range(3):
        journal.prune(now_s + 3600 * hours)
    kept = [entry.seq for entry in entries(journal)]
    journal.close()
    gone = days[: len(days) - len(kept)]
    assert kept == list(range(len(gone) + 1, len(days) + 1))
    ages = [now_day + 2 / 24 - day for day in days]
    assert not any(0 <= age <= 30 for age in ages[: len(gone)])
    if gone:
        assert ages[len(gone) - 1] > 30
    rest = ages[len(gone) :]
    young = next((i for i, age in enumerate(rest) if 0 <= age <= 30), len(rest))
    assert not any(age > 30 for age in rest[:young])


def test_a_run_that_was_shut_out_is_the_newest_once_it_stores(path):
    """It lost its file, another run used the journal meanwhile, and then it stores again: no event is hidden."""
    first = Journal(path)
    stored = first.append([event(1)])
    first._degrade(OSError("unplugged"))
    second = Journal(path)
    seen = second.append([event(2)])
    second.close()
    stored += first.append([event(3)])
    assert entries(first) == seen + stored
    assert entries(first, Cursor(*seen[0][:2])) == stored
    first.close()


@settings(deadline=None, max_examples=20)
@given(st.lists(st.integers(1, 5), min_size=1, max_size=6), st.integers(0, 12), st.integers(1, 4))
def test_any_page_size_reads_the_same_log(tmp_path_factory, batches, at_seq, page):
    """The SQL agrees with the rule: pages through a real journal of two epochs."""
    path = tmp_path_factory.mktemp("journal") / "j.sqlite"
    first = Journal(path)
    expected = [entry for count in batches for entry in first.append([event(n) for n in range(count)])]
    first.close()
    journal = Journal(path)
    expected += journal.append([event(1)])
    cursor, found = Cursor(first.epoch, at_seq), []
    for _ in range(100):
        items, cursor = journal.read_after(cursor, page)
        found += items
        if len(items) < page:
            break
    assert found == [entry for entry in expected if (entry.epoch, entry.seq) > (first.epoch, at_seq)]
    journal.close()
