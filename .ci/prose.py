"""Check how pages read: `python .ci/prose.py [FILE...]`, by default the pages that pyproject.toml lists.

A page fails if its sentences have more than 18 words on average, if one has more than 40, or if a line has more than
100 characters. Code, tables, headings and link targets do not count; a list item is at least one sentence.
"""

import re
import sys
import tomllib
from pathlib import Path

MOST_WORDS_ON_AVERAGE = 18
MOST_WORDS = 40
MOST_CHARACTERS = 100

FENCE = re.compile(r"^\s*(```|~~~|:::)")
NO_PROSE = re.compile(r"^\s*(\||#|<|!\[|    \S|\[[^\]]+\]:)")  # tables, headings, HTML, pictures, code, link targets
ITEM = re.compile(r"^\s*([-*+]|\d+\.)\s+")
LINK = re.compile(r"!?\[([^\]]*)\]\([^)\s]*\)")
CODE = re.compile(r"`[^`]+`")
SENTENCE_END = re.compile(r"(?<!e\.g\.)(?<!i\.e\.)(?<=[.!?])[\"')*]*\s+(?=[\"'(*]*[A-Z0-9`])")


def blocks(text: str) -> list[tuple[int, str]]:
    """Paragraphs and list items, each with the number of its first line."""
    found: list[tuple[int, str]] = []
    open_block = in_fence = False
    for number, line in enumerate(text.splitlines(), 1):
        if FENCE.match(line):
            in_fence, open_block = not in_fence, False
        elif in_fence or not line.strip():
            open_block = False
        elif ITEM.match(line):
            found.append((number, ITEM.sub("", line)))
            open_block = True
        elif open_block and not line.lstrip().startswith(("|", "#")):
            found[-1] = (found[-1][0], f"{found[-1][1]} {line.strip()}")
        elif NO_PROSE.match(line):
            open_block = False
        else:
            found.append((number, line))
            open_block = True
    return found


def sentences(text: str) -> list[tuple[int, str]]:
    """Every sentence with the line its paragraph begins at; a piece of code is one word."""
    return [
        (line, sentence)
        for line, block in blocks(text)
        for sentence in SENTENCE_END.split(CODE.sub("`code`", LINK.sub(r"\1", block)))
    ]


def words(sentence: str) -> int:
    """How many words it has: whatever holds a letter or a digit between two spaces."""
    return sum(bool(re.search(r"\w", word)) for word in sentence.split())


def long_lines(text: str) -> list[int]:
    """The numbers of the lines that are too long, although they could be wrapped."""
    found, in_fence = [], False
    for number, line in enumerate(text.splitlines(), 1):
        in_fence ^= bool(FENCE.match(line))
        if not in_fence and len(CODE.sub("`c`", LINK.sub(r"\1", line))) > MOST_CHARACTERS and not NO_PROSE.match(line):
            found.append(number)
    return found


def faults(page: Path) -> list[str]:
    """What is wrong with a page, a line each."""
    text = page.read_text(encoding="utf-8")
    lengths = [(words(sentence), line, sentence) for line, sentence in sentences(text) if words(sentence)]
    average = sum(length for length, _, _ in lengths) / max(len(lengths), 1)
    return [
        *(f"{page}:{line}: longer than {MOST_CHARACTERS} characters; wrap it" for line in long_lines(text)),
        *(
            f"{page}:{line}: a sentence of {length} words (at most {MOST_WORDS}); split it: {sentence[:60]}..."
            for length, line, sentence in lengths
            if length > MOST_WORDS
        ),
        *(
            [f"{page}: {average:.1f} words a sentence on average (at most {MOST_WORDS_ON_AVERAGE}); shorten them"]
            if average > MOST_WORDS_ON_AVERAGE
            else []
        ),
    ]


def main(arguments: list[str]) -> int:
    """Print every fault; 1 if there is one."""
    root = Path(__file__).resolve().parent.parent
    listed = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["prose"]["pages"]
    pages = [Path(name) for name in arguments] or [root / name for name in listed]
    found = [fault for page in pages for fault in faults(page)]
    print("\n".join(found) or f"pages that read well: {len(pages)}")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
