//! Measurements that decide something: instructions for each class of request, held against a committed file, and the
//! time that a request costs beside libmodsecurity in one run.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, bail};

use crate::place;
use crate::steps::{cargo, must};

/// `bench instructions [--bless]` or `bench waf [ROUNDS SECONDS]`.
pub(crate) fn bench(arguments: &[String]) -> anyhow::Result<ExitCode> {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["instructions"] => instructions(false),
        ["instructions", "--bless"] => instructions(true),
        ["waf"] => beside_libmodsecurity("5", "0.4"),
        ["waf", rounds, seconds] => beside_libmodsecurity(rounds, seconds),
        _ => bail!("bench takes `instructions [--bless]` or `waf [ROUNDS SECONDS]`"),
    }
}

/// Instructions per request of each class; fails when one takes more than the committed figure and its tolerance.
fn instructions(bless: bool) -> anyhow::Result<ExitCode> {
    let measured = count_instructions()?;
    let path = place::root().join(BASELINE);
    let before = std::fs::read_to_string(&path).unwrap_or_default();
    if bless {
        std::fs::write(&path, blessed(&before, &measured)).context(BASELINE)?;
    }
    let report = compare(&parse(&before), &measured);
    print!("{}", report.table);
    if report.worse == 0 || bless {
        return Ok(ExitCode::SUCCESS);
    }
    println!(
        "\n{} classes take more instructions than {BASELINE} says, or are not in it.\n\
         Where that is meant, `cargo xtask bench instructions --bless` rewrites the file.",
        report.worse
    );
    Ok(ExitCode::FAILURE)
}

/// The same as a step of CI.
pub(crate) fn check() -> anyhow::Result<()> {
    if instructions(false)? != ExitCode::SUCCESS {
        bail!("some class takes more instructions than before");
    }
    Ok(())
}

type Counts = BTreeMap<String, u64>;

/// Runs the bench under callgrind, which writes one file for each call of the measured function.
fn count_instructions() -> anyhow::Result<Counts> {
    if !is_program("valgrind") {
        bail!("needs valgrind (Debian: apt-get install valgrind)");
    }
    let folder = place::target().join("instructions");
    if folder.exists() {
        std::fs::remove_dir_all(&folder)?;
    }
    std::fs::create_dir_all(&folder)?;
    let out = folder.join("callgrind");
    let runner = format!(
        "target.'cfg(unix)'.runner = ['valgrind', '--tool=callgrind', '--collect-atstart=no', '--callgrind-out-file={}', \
         '--toggle-collect={MEASURED}', '--dump-after={MEASURED}']",
        out.display()
    );
    let mut bench = cargo(["bench", "--locked", "--package", "phalanx-inspect", "--bench", "instructions"]);
    let done =
        bench.args(["--config", &runner]).stderr(Stdio::inherit()).output().context("cannot start cargo")?;
    if !done.status.success() {
        bail!("the bench ended with {}", done.status);
    }
    let text = String::from_utf8_lossy(&done.stdout);
    let mut counts = Counts::new();
    for (number, line) in (1..).zip(text.lines().filter_map(|line| line.strip_prefix("class "))) {
        let (name, requests) = line.split_once(' ').context("a class has no number of requests")?;
        let total = total_of(&folder.join(format!("callgrind.{number}")))?;
        counts.insert(name.to_owned(), total / requests.parse::<u64>()?.max(1));
    }
    if counts.is_empty() {
        bail!("the bench told of no class");
    }
    Ok(counts)
}

fn total_of(file: &Path) -> anyhow::Result<u64> {
    let text = std::fs::read_to_string(file).with_context(|| file.display().to_string())?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: "));
    let total = total.with_context(|| format!("{} has no total", file.display()))?;
    Ok(total.trim().parse()?)
}

/// What changed, as a table, and how many classes got worse.
struct Report {
    table: String,
    worse: usize,
}

fn compare(before: &Counts, now: &Counts) -> Report {
    let mut table =
        format!("{:<28} {:>12} {:>12} {:>8}\n", "instructions per request", "committed", "now", "change");
    let mut worse = 0;
    for (name, count) in now {
        let Some(old) = before.get(name) else {
            let _ = writeln!(table, "{name:<28} {:>12} {count:>12}      new", "-");
            worse += 1;
            continue;
        };
        let per_mille = i64::try_from(count * 1000 / (*old).max(1)).unwrap_or(i64::MAX) - 1000;
        let verdict = if per_mille > TOLERANCE_PER_MILLE {
            worse += 1;
            "  WORSE"
        } else if per_mille < -TOLERANCE_PER_MILLE {
            "  better: bless it, so that it stays"
        } else {
            ""
        };
        let sign = if per_mille < 0 { '-' } else { '+' };
        let change = format!("{sign}{}.{} %", per_mille.abs() / 10, per_mille.abs() % 10);
        let _ = writeln!(table, "{name:<28} {old:>12} {count:>12} {change:>8}{verdict}");
    }
    for name in before.keys().filter(|name| !now.contains_key(*name)) {
        let _ = writeln!(table, "{name:<28} skipped: PHALANX_SHARED is not set");
    }
    Report { table, worse }
}

fn parse(text: &str) -> Counts {
    let rows = text.lines().filter(|line| !line.starts_with('#'));
    rows.filter_map(|line| {
        Some((line.split_once('\t')?.0.to_owned(), line.split_once('\t')?.1.parse().ok()?))
    })
    .collect()
}

/// The file with the new figures; classes that were not measured keep theirs, and so does the comment.
fn blessed(before: &str, measured: &Counts) -> String {
    let mut counts = parse(before);
    counts.extend(measured.iter().map(|(name, count)| (name.clone(), *count)));
    let mut text: String =
        before.lines().filter(|line| line.starts_with('#')).map(|line| format!("{line}\n")).collect();
    for (name, count) in counts {
        let _ = writeln!(text, "{name}\t{count}");
    }
    text
}

/// Both engines over the same corpora, one after the other on this machine: read the ratios, not the times. `PHALANX_BIN` is
/// measured instead of a new release build, if it is set.
fn beside_libmodsecurity(rounds: &str, seconds: &str) -> anyhow::Result<ExitCode> {
    let work = bench_folder()?;
    let corpora = corpora(&work.join("corpus"))?;
    let phalanx = match std::env::var_os("PHALANX_BIN") {
        Some(other) => PathBuf::from(other),
        None => {
            must(&mut cargo(["build", "--locked", "--release", "--package", "phalanx"]))?;
            place::built("release", "phalanx")
        }
    };
    let mut rows: Vec<(String, Vec<Row>)> = Vec::new();
    for (name, library) in libraries(&work)? {
        let mut peer = Command::new(work.join("harness/mbench"));
        peer.env("LD_LIBRARY_PATH", library.parent().unwrap_or(Path::new("")));
        peer.arg(&library).arg(work.join("crs/main-pl1.conf")).args([rounds, seconds]).args(&corpora);
        rows.push((name, read_rows(&mut peer)?));
    }
    let mut ours = Command::new(phalanx);
    ours.args(["waf", "bench", "--paranoia", "1", "--rounds", rounds, "--seconds", seconds, "--rules"]);
    rows.push(("phalanx".to_owned(), read_rows(ours.arg(work.join("crs")).args(&corpora))?));
    print!("{}", side_by_side(&rows));
    Ok(ExitCode::SUCCESS)
}

/// CPU microseconds per request of a class.
struct Row {
    class: String,
    cpu_us: f64,
}

/// Runs a program that prints the rows of the shared harness: class, files, blocked, wall median, min, max, CPU median, ...
fn read_rows(program: &mut Command) -> anyhow::Result<Vec<Row>> {
    let done = program.stderr(Stdio::inherit()).output();
    let done = done.with_context(|| format!("cannot start {}", program.get_program().to_string_lossy()))?;
    if !done.status.success() {
        bail!("{} ended with {}", program.get_program().to_string_lossy(), done.status);
    }
    let text = String::from_utf8_lossy(&done.stdout);
    let row = |line: &str| {
        let fields: Vec<&str> = line.split('\t').collect();
        Some(Row { class: (*fields.first()?).to_owned(), cpu_us: fields.get(6)?.trim().parse().ok()? })
    };
    Ok(text.lines().filter(|line| !line.starts_with('#')).filter_map(row).collect())
}

fn side_by_side(engines: &[(String, Vec<Row>)]) -> String {
    let mut table = format!("{:<16}", "CPU us/request");
    for (name, _) in engines {
        let _ = write!(table, " {name:>22}");
    }
    table.push_str("      ratios\n");
    let Some((_, ours)) = engines.last() else { return table };
    for own in ours {
        let _ = write!(table, "{:<16}", own.class);
        let mut ratios = String::new();
        for (_, rows) in engines {
            match rows.iter().find(|row| row.class == own.class) {
                Some(row) => {
                    let _ = write!(table, " {:>22.1}", row.cpu_us);
                    let _ = write!(ratios, " {:>8.1}", row.cpu_us / own.cpu_us);
                }
                None => {
                    let _ = write!(table, " {:>22}", "-");
                }
            }
        }
        let _ = writeln!(table, "  {ratios}");
    }
    table
}

/// The peers' folder: `BENCH_WORK`, set up before, or set up now below the target folder.
fn bench_folder() -> anyhow::Result<PathBuf> {
    let work = match std::env::var_os("BENCH_WORK") {
        Some(work) => PathBuf::from(work),
        None => place::target().join("bench"),
    };
    if !work.join("harness/mbench").is_file() {
        let shared = std::env::var_os("PHALANX_SHARED")
            .context("needs PHALANX_SHARED, or BENCH_WORK set up before")?;
        must(Command::new(PathBuf::from(shared).join("bench/setup.sh")).env("BENCH_WORK", &work))
            .context("the set-up installs Debian packages and needs root")?;
    }
    Ok(work)
}

fn corpora(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| folder.display().to_string())?;
    let mut found: Vec<PathBuf> =
        entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
    found.sort();
    Ok(found)
}

/// libmodsecurity as Debian packages it and as PyPI has it, as far as they are there.
fn libraries(work: &Path) -> anyhow::Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    let debian = PathBuf::from(format!("/usr/lib/{}-linux-gnu/libmodsecurity.so.3", std::env::consts::ARCH));
    if debian.exists() {
        found.push(("libmodsecurity Debian".to_owned(), debian));
    }
    let environments = std::fs::read_dir(work.join("venv/lib")).into_iter().flatten().flatten();
    for environment in environments {
        let folder = environment.path().join("site-packages/libmodsecurity.libs");
        let files = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let is_library = |path: &PathBuf| {
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libmodsecurity-"))
        };
        found.extend(files.filter(is_library).map(|path| ("libmodsecurity PyPI".to_owned(), path)));
    }
    if found.is_empty() {
        bail!("no libmodsecurity to compare with");
    }
    Ok(found)
}

/// Whether a program of this name is found.
pub(crate) fn is_program(name: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&paths).any(|folder| folder.join(name).is_file())
}

const BASELINE: &str = "crates/inspect/benches/instructions.tsv";
const MEASURED: &str = "*instructions::measured";
/// Seeds of hash tables differ from run to run; that moves counts by less than a hundredth.
const TOLERANCE_PER_MILLE: i64 = 50;

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(rows: &[(&str, u64)]) -> Counts {
        rows.iter().map(|(name, count)| ((*name).to_owned(), *count)).collect()
    }

    #[test]
    fn more_than_the_tolerance_fails_and_less_is_told() {
        let before = counts(&[("a", 1000), ("b", 1000), ("c", 1000), ("gone", 1)]);
        let report = compare(&before, &counts(&[("a", 1050), ("b", 1051), ("c", 900), ("new", 7)]));
        assert_eq!(report.worse, 2);
        assert!(
            report.table.contains("+5.1 %  WORSE") && report.table.contains("-10.0 %  better"),
            "{}",
            report.table
        );
        assert!(report.table.contains("gone") && report.table.contains("skipped"), "{}", report.table);
    }

    #[test]
    fn blessing_keeps_comments_and_what_was_not_measured() {
        let text = blessed("# why\na\t1\nb\t2\n", &counts(&[("b", 3), ("c", 4)]));
        assert_eq!(text, "# why\na\t1\nb\t3\nc\t4\n");
        assert_eq!(parse(&text), counts(&[("a", 1), ("b", 3), ("c", 4)]));
    }

    #[test]
    fn engines_are_told_side_by_side() {
        let rows = |cpu_us| vec![Row { class: "get".into(), cpu_us }];
        let table = side_by_side(&[("peer".into(), rows(100.0)), ("ours".into(), rows(2.0))]);
        assert!(table.contains("50.0") && table.contains("1.0"), "{table}");
    }
}
