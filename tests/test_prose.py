"""The style check of the pages sees what makes a page hard to read, and nothing else."""

import subprocess
import sys
from pathlib import Path

import pytest

CHECK = Path(__file__).parent.parent / ".ci" / "prose.py"
SHORT = "A camera goes in. An interval comes out.\n"


def checked(page: Path) -> tuple[int, str]:
    done = subprocess.run([sys.executable, str(CHECK), str(page)], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout


def sentence(words: int) -> str:
    """A sentence of that many words, wrapped."""
    return "\n".join(" ".join(["Word"] * min(10, words - at)) for at in range(0, words, 10)) + ".\n"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (SHORT * 20 + "\n" + sentence(41), "page.md:22: a sentence of 41 words"),
        (SHORT * 20 + "\n- one\n- " + sentence(41), "page.md:23: a sentence of 41 words"),
        (sentence(19), "19.0 words a sentence on average"),
        (SHORT + "x" * 101 + "\n", "page.md:2: longer than 100 characters"),
    ],
)
def test_a_page_that_is_hard_to_read_is_refused_with_its_line(tmp_path, text, why):
    page = tmp_path / "page.md"
    page.write_text(text)
    code, said = checked(page)
    assert code == 1
    assert why in said


@pytest.mark.parametrize(
    "text",
    [
        sentence(18),
        SHORT * 3 + sentence(40),
        SHORT + "\n```\n" + "word " * 50 + "\n```\n",
        SHORT + "\n| a |\n|---|\n| " + "word " * 50 + " |\n",
        SHORT + "\n## " + "word " * 45 + "\n",
        SHORT + f"See [the page](https://example.org/{'x' * 100}).\n",
        SHORT + f"Run `python {'x' * 100} a b c` first.\n",
        "Run it, e.g. Thursday or i.e. Friday.\n",
    ],
)
def test_code_tables_headings_and_targets_of_links_do_not_count(tmp_path, text):
    page = tmp_path / "page.md"
    page.write_text(text)
    assert checked(page) == (0, "pages that read well: 1\n")
