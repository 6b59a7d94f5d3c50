"""A recipe is the flags of a training run in a file: read as they are, overridden by those given, refused in a line."""

from pathlib import Path

import pytest

from engine.train import RECIPES, main, parse
from stream.errors import UserError

RECIPE = """
# pools are as on the command line
pool = ["films", "footage"]
shares = [2, 0.5]
tune = ["others"]
imprint = "actors"
errors = [0.05, 0.13]
steps = 12
rate = 1e-3
judge-every = 4
"""
FLAGS = "--pool films footage --shares 2 0.5 --tune others --imprint actors --errors 0.05 0.13 --steps 12 --rate 1e-3 \
--judge-every 4"


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(RECIPE)
    return str(path)


def asked(words):
    """Every option as it was understood, but for the recipe's own name."""
    return {name: value for name, value in vars(parse(words)).items() if name != "recipe"}


def test_a_recipe_is_its_flags(recipe):
    assert asked(["--recipe", recipe, "--out", "o"]) == asked([*FLAGS.split(), "--out", "o"])


def test_flags_override_the_recipe_wherever_they_stand(recipe):
    words = ["--steps", "7", "--pool", "mine", "--recipe", recipe, "--out", "o", "--shares", "1"]
    own = asked(words)
    assert (own["steps"], own["pool"], own["shares"]) == (7, [Path("mine")], [1.0])
    assert (own["rate"], own["judge_every"], own["tune"]) == (1e-3, 4, [Path("others")])


def test_a_run_takes_its_pools_from_the_recipe(recipe, tmp_path, capsys):
    """Through the whole command: what it misses is the first pool of the recipe."""
    assert main(["--recipe", recipe, "--out", str(tmp_path / "out"), "--device", "cpu"]) == 2
    assert "films holds no pool" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("stepz = 3", "no flag is named stepz"),
        ("judge_every = 3", "no flag is named judge_every"),
        ("recipe = 'full'", "no flag is named recipe"),
        ("steps = ", "Invalid value"),
        (b"\xff\xfe", "can't decode"),
        (None, "No such file"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused_in_one_line(tmp_path, capsys, text, why):
    path = tmp_path / "bad.toml"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert main(["--recipe", str(path), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert "bad.toml" in said
    assert why in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_value_that_is_none_is_refused_as_on_the_command_line(tmp_path, capsys):
    path = tmp_path / "bad.toml"
    path.write_text("steps = 'many'")
    with pytest.raises(SystemExit) as ended:
        main(["--recipe", str(path), "--out", str(tmp_path / "out")])
    assert ended.value.code == 2
    assert "--steps: invalid int value: 'many'" in capsys.readouterr().err


@pytest.mark.parametrize("name", sorted(path.stem for path in RECIPES.glob("*.toml")))
def test_every_recipe_that_is_shipped_can_be_read_by_its_name(name):
    """And its shares, where it has any, are one for each pool."""
    options = parse(["--recipe", name, "--out", "o"])
    assert options.steps > 0
    assert options.shares is None or len(options.shares) == len(options.pool)


def test_a_name_that_is_no_recipe_is_refused_with_those_there_are():
    with pytest.raises(UserError, match=r"fulll.*one of full, run10"):
        parse(["--recipe", "fulll", "--out", "o"])
