"""The journal: what was sent is on disk, numbers are never used twice, and a sick disk does not stop the program."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from serving import as_sent, event

from stream.errors import UserError
from stream.protocol.ulid import is_ulid, new_ulid
from stream.server.journal import EVERYTHING, Cursor, Entry, Journal, Missing, Retention, with_gaps

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


def test_epochs_sort_by_age_even_if_the_clock_is_set_back(path, monkeypatch):
    first = Journal(path)
    first.close()
    monkeypatch.setattr(time, "time_ns", lambda: 1_000_000_000)
    second = Journal(path)
    assert is_ulid(second.epoch)
    assert second.epoch > first.epoch
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


@given(LOGS, st.integers(0, 4), st.integers(0, 9), st.integers(1, 5))
def test_reading_on_yields_every_stored_event_once_and_names_every_other(log, at_epoch, at_seq, page):
    """Against brute force: any stored and lost events in any epochs, from any cursor, in pages of any size."""
    last_seqs = {f"E{i}": max([last, *stored]) for i, (last, stored) in enumerate(log)}
    rows = [Entry(f"E{i}", seq, "") for i, (_, stored) in enumerate(log) for seq in sorted(stored)]
    end = f"E{len(log) - 1}"
    cursor = Cursor(f"E{min(at_epoch, len(log) - 1)}", at_seq)
    start, seen = cursor, []
    while True:
        ahead = [row for row in rows if (row.epoch, row.seq) > cursor]
        items, cursor = with_gaps(cursor, ahead[:page], last_seqs, end if len(ahead) < page else None)
        for item in items:
            span = [item.seq] if isinstance(item, Entry) else range(item.first, item.last + 1)
            seen += [(item.epoch, seq, isinstance(item, Entry)) for seq in span]
        if len(ahead) < page:
            break
    stored = {(row.epoch, row.seq) for row in rows}
    newest_stored = max((row.seq for row in rows if row.epoch == end), default=0)  # what follows is not over yet
    assert seen == [
        (epoch, seq, (epoch, seq) in stored)
        for epoch, last in last_seqs.items()
        for seq in range(1, (newest_stored if epoch == end else last) + 1)
        if (epoch, seq) > start
    ]


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
from stream.server.journal import EVERYTHING, Journal
path = Path(sys.argv[1])
journal = Journal(path)
journal.append([event(1)])
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (path.with_name(path.name + "-wal").stat().st_size, hard))
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


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that nobody, root included, can write to")
def test_a_read_only_place_degrades_and_numbering_goes_on():
    journal = Journal(Path("/proc/no-such/journal.sqlite"))
    assert "not being stored" in journal.degraded
    assert [entry.seq for entry in journal.append([event(1), event(2)])] == [1, 2]
    assert entries(journal) == []
    journal.close()


def test_what_is_not_a_journal_is_left_alone(path, tmp_path):
    path.parent.mkdir()
    path.write_text("dear diary, " * 1000)
    with pytest.raises(UserError, match="is not an event journal"):
        Journal(path)
    assert path.read_text().startswith("dear diary")
    with pytest.raises(UserError, match="is not an event journal"):
        Journal(tmp_path)
    newer = tmp_path / "newer.sqlite"
    with sqlite3.connect(newer) as db:
        db.execute("PRAGMA user_version=99")
    with pytest.raises(UserError, match="newer program"):
        Journal(newer)


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
