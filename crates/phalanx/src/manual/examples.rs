//! Examples in the help of commands, and what exit codes mean. A test reads each example by the command line's own definitions.

use clap::{Command, CommandFactory as _};

use crate::args::Cli;

/// The command line as it is read, with examples.
pub(crate) fn command() -> Command {
    let command = Cli::command().after_help(AFTER);
    EXAMPLES.iter().fold(command, |command, (words, lines)| {
        let words: Vec<&str> = words.split(' ').collect();
        with(command, &words, &format!("Examples:\n  {}", lines.join("\n  ")))
    })
}

/// Adds a text below the help of the command of these words.
fn with(command: Command, words: &[&str], text: &str) -> Command {
    match words.split_first() {
        None => command.after_help(text.to_owned()),
        // A name that there is not is found by a test.
        Some((first, rest)) if command.find_subcommand(first).is_some() => {
            command.mut_subcommand(first, |command| with(command, rest, text))
        }
        Some(_) => command,
    }
}

/// What is said below the help of the whole.
const AFTER: &str = "\
Exit codes:
  0  done; what was checked is good
  1  it could not be done, or what was checked has faults (standard error says)
  2  the command line makes no sense; of `policy diff` and `plan`: a policy cannot be read

Colours and progress are shown on terminals only, colours not with NO_COLOR.
PHALANX_LOG filters what a node logs to standard error, e.g. PHALANX_LOG=debug.";

/// Words of a command, and what one would type.
pub(super) const EXAMPLES: &[(&str, &[&str])] = &[
    (
        "up",
        &[
            "phalanx up --to http://127.0.0.1:3000",
            "phalanx up --to http://127.0.0.1:3000 --mode observe",
            "phalanx up --to http://127.0.0.1:3000 --listen 0.0.0.0:8080 \\\n      --trust-forwarded 10.0.0.0/8",
            "phalanx up --to http://127.0.0.1:3000 --rules /usr/share/modsecurity-crs",
        ],
    ),
    ("run", &["phalanx run -c /etc/phalanx/phalanx.toml"]),
    (
        "check",
        &[
            "phalanx check -c phalanx.toml",
            "phalanx check -c phalanx.toml --strict",
            "phalanx check -c phalanx.toml --route GET https://shop.example/cart",
        ],
    ),
    (
        "probe",
        &[
            "phalanx probe -c phalanx.toml",
            "phalanx probe -c phalanx.toml --address 203.0.113.9",
            "phalanx probe -c phalanx.toml --outside",
        ],
    ),
    ("demo", &["phalanx demo", "phalanx demo --once --json"]),
    ("status", &["phalanx status", "phalanx status --state /var/lib/phalanx --json"]),
    (
        "decision add",
        &[
            "phalanx decision add --ip 192.0.2.7 --for 1h --reason \"scans us\"",
            "phalanx decision add --asn 64500 --kind challenge --for 1d --reason bots",
        ],
    ),
    ("blocklist import", &["phalanx blocklist import drop drop.txt --for 2d"]),
    (
        "operator add",
        &["phalanx operator add alice --role owner", "phalanx operator add bob --role responder --app shop"],
    ),
    (
        "events",
        &["phalanx events", "phalanx events --app shop --status 4xx --text /login", "phalanx events --json"],
    ),
    ("traffic", &["phalanx traffic", "phalanx traffic --last 24h --by country --refused --fleet"]),
    ("audit", &["phalanx audit", "phalanx audit --by ann --kind operator_action"]),
    ("explain", &["phalanx explain 01k9zq3v5n8r4t6w2y0x7b1c3d"]),
    ("policy test", &["phalanx policy test policy.toml", "phalanx policy test -c phalanx.toml --json"]),
    (
        "policy diff",
        &["phalanx policy diff old.toml new.toml", "phalanx policy diff -c phalanx.toml new.toml"],
    ),
    (
        "policy push",
        &["phalanx policy push policy.toml --canary fra/edge-1 --bake 10m --reason \"new shop\""],
    ),
    ("policy rollback", &["phalanx policy rollback --reason \"the shop refuses orders\""]),
    ("waf ftw", &["phalanx waf ftw --rules crs --tests crs/tests/regression/tests"]),
    ("waf replay", &["phalanx waf replay --rules crs < requests.jsonl"]),
    (
        "waf suggest",
        &[
            "phalanx waf suggest 01k9zq3v5n8r4t6w2y0x7b1c3d --owner ann@example.org \\\n      --reason \"ticket 4711\" --write policy.toml",
        ],
    ),
    ("schema", &["phalanx schema policy > policy.schema.json"]),
    (
        "completions",
        &[
            "phalanx completions bash > /etc/bash_completion.d/phalanx",
            "phalanx completions zsh > /usr/local/share/zsh/site-functions/_phalanx",
            "phalanx completions fish > ~/.config/fish/completions/phalanx.fish",
        ],
    ),
    ("man", &["phalanx man --to /usr/local/share/man/man1"]),
];
