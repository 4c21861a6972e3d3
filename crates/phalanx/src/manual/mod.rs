//! What the product says of itself: completions for shells, man pages, schemas for editors, and the reference pages of the book.
//!
//! INVARIANT: each is made of what does the work (the command line's definitions, the types that read files, the API's own document),
//! so that nothing here has to be kept in step by hand.

mod api;
mod examples;
mod keys;
mod pages;

#[cfg(test)]
mod command_tests;
#[cfg(test)]
mod schema_tests;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use clap_complete::Shell;
use serde_json::Value;

use crate::commands::print;

pub(crate) use examples::command;

/// Arguments of `completions`.
#[derive(Debug, Clone, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Arguments of `man`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ManArgs {
    /// The folder to write them into, e.g. /usr/local/share/man/man1; made if it is not there
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

/// Arguments of `schema`.
#[derive(Debug, Clone, Args)]
pub(crate) struct SchemaArgs {
    /// Which file
    #[arg(value_enum)]
    file: SchemaOf,
}

/// A file that people write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SchemaOf {
    /// A node's settings, `phalanx.toml`
    Settings,
    /// A policy
    Policy,
    /// What is expected of a policy, `*.test.toml`
    Test,
}

/// Arguments of `reference`.
#[derive(Debug, Clone, Args)]
pub(crate) struct ReferenceArgs {
    /// The folder to write them into; made if it is not there
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
}

/// Prints a script that completes commands, options and their words.
pub(crate) fn completions(args: &CompletionsArgs) -> anyhow::Result<ExitCode> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command(), "phalanx", &mut script);
    print::text(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

/// Writes a page for each command.
pub(crate) fn man(args: &ManArgs) -> anyhow::Result<ExitCode> {
    let mut command = command();
    // Names with all words before them, as the pages' own names are.
    command.build();
    folder(&args.to)?;
    let written = man_pages(&command, "", &args.to)?;
    print::text(&format!("{written} pages in {}\n", args.to.display()))?;
    Ok(ExitCode::SUCCESS)
}

fn man_pages(command: &clap::Command, before: &str, to: &Path) -> anyhow::Result<usize> {
    let name = format!("{before}{}", command.get_name());
    let mut page = Vec::new();
    // Without a date: the same sources make the same pages.
    clap_mangen::Man::new(command.clone()).title(name.to_uppercase()).date("").render(&mut page)?;
    write(&to.join(format!("{name}.1")), &page)?;
    let mut written = 1;
    for command in command.get_subcommands().filter(|command| shown(command)) {
        written += man_pages(command, &format!("{name}-"), to)?;
    }
    Ok(written)
}

/// Prints the schema of a file.
pub(crate) fn schema(args: &SchemaArgs) -> anyhow::Result<ExitCode> {
    print::text(&format!("{:#}\n", args.file.schema()))?;
    Ok(ExitCode::SUCCESS)
}

impl SchemaOf {
    fn schema(self) -> Value {
        match self {
            Self::Settings => crate::settings::schema(),
            Self::Policy => phalanx_policy::schema::policy_schema(),
            Self::Test => phalanx_policy::expectation::expectations_schema(),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Settings => "settings",
            Self::Policy => "policy",
            Self::Test => "test",
        }
    }
}

/// Writes the generated pages of the book, and the schemas.
pub(crate) fn reference(args: &ReferenceArgs) -> anyhow::Result<ExitCode> {
    folder(&args.to)?;
    let mut command = command();
    command.build();
    write(&args.to.join("commands.md"), pages::commands(&command).as_bytes())?;
    write(&args.to.join("api.md"), api::page(&phalanx_control::openapi_document()).as_bytes())?;
    for file in SchemaOf::value_variants() {
        let schema = file.schema();
        write(&args.to.join(format!("{}.md", file.name())), keys::page(*file, &schema).as_bytes())?;
        write(&args.to.join(format!("{}.schema.json", file.name())), format!("{schema:#}\n").as_bytes())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether a command is for people, and is not clap's own `help`.
fn shown(command: &clap::Command) -> bool {
    !command.is_hide_set() && command.get_name() != "help"
}

fn folder(path: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(path).with_context(|| format!("{} cannot be made", path.display()))
}

fn write(path: &Path, text: &[u8]) -> anyhow::Result<()> {
    std::fs::write(path, text).with_context(|| format!("{} cannot be written", path.display()))
}
