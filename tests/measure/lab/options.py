"""What every measurement of the fleet takes on its command line."""

from __future__ import annotations

import argparse
import pathlib

ROOT = pathlib.Path(__file__).resolve().parents[3]


def parser(about: str | None) -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--phalanx", type=pathlib.Path, default=ROOT / "target/release/phalanx", help="the binary to measure")
    made.add_argument("--nats-server", help="the nats-server to run [default: $PHALANX_NATS_SERVER, else from PATH]")
    made.add_argument("--json", action="store_true", help="one JSON object a line instead of a table")
    made.add_argument("--pause-ms", type=float, default=0.5, help="between two questions of a watching client [0.5]")
    return made


def read(made: argparse.ArgumentParser) -> argparse.Namespace:
    """The options; the binary is there."""
    options = made.parse_args()
    if not options.phalanx.is_file():
        made.error(f"{options.phalanx} is not there; build it with `cargo build --release` or give --phalanx")
    options.phalanx = options.phalanx.resolve()
    return options
