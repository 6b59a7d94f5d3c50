"""`python -m benchmarks NAME [--json] [options]`. With --json the last line of stdout is one JSON object."""

import argparse
import importlib
import json
import pkgutil
import sys
from pathlib import Path

from benchmarks.measure import machine
from engine.errors import EngineError
from stream.errors import UserError

NOT_A_BENCHMARK = {"__main__", "crops", "measure", "parity", "same_faces", "same_films"}


def names() -> list[str]:
    return sorted(m.name for m in pkgutil.iter_modules([str(Path(__file__).parent)]) if m.name not in NOT_A_BENCHMARK)


def main(argv: list[str]) -> int:
    if not argv or argv[0] not in names():
        print(f"usage: python -m benchmarks {{{','.join(names())}}} [--json] [options]", file=sys.stderr)
        return 0 if argv and argv[0] in ("-h", "--help") else 2
    module = importlib.import_module(f"benchmarks.{argv[0]}")
    first, _, rest = (module.__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks {argv[0]}", description=first, epilog=rest)
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object, on the last line")
    module.add_arguments(parser)
    args = parser.parse_args(argv[1:])
    try:
        result = {"benchmark": argv[0], "machine": machine(), **module.run(args)}
    except (EngineError, UserError) as error:
        print(f"benchmarks {argv[0]}: {error}", file=sys.stderr)
        return 1
    if args.json:
        print(json.dumps(result))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
