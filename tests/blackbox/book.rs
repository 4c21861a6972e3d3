//! The commands in the guide, run as they stand there, against a real node in a folder of its own; what the pages show is compared with
//! what comes.
//!
//! Of a page these count, from top to bottom:
//! - a block below a line that is "`NAME`:" (or "`NAME`, beside it:") is a file of that name;
//! - `<!-- run $ COMMAND -->` is a command that readers need not see, which makes what the page takes for granted;
//! - a block ```` ```console ````: lines with `$ ` are commands, those below are what they print. `...` stands for what differs each time, in a
//!   line or for lines; `# exit code N` for a command that does not succeed. One that cannot be run says why: `# not run here: REASON`.
//!
//! `phalanx up` and `phalanx run` go on until the next of them or the page's end. Addresses, folders, ids and `ID` are those of the page for
//! its readers, and others for the commands.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::*;

/// Something on a page, with its line.
enum Piece {
    File(String, String),
    /// A command, and what is shown below it; `None` where nobody sees the command.
    Command(String, Option<Vec<String>>),
    NotRun,
}

#[test]
fn commands_in_the_guide_do_what_it_says() {
    if absent("curl") || absent("openssl") {
        return;
    }
    let guide = root().join("docs/guide");
    let mut pages: Vec<_> = std::fs::read_dir(guide).unwrap().map(|entry| entry.unwrap().path()).collect();
    pages.sort();
    let (mut run, mut marked, mut faults) = (0, 0, Vec::new());
    for page in pages {
        let text = std::fs::read_to_string(&page).unwrap();
        let name = page.file_name().unwrap().to_str().unwrap();
        faults.extend(
            loose(&text).iter().map(|line| format!("{name}:{line}: write it into a block ```console")),
        );
        let (pieces, blocks) = pieces(&text);
        let not = pieces.iter().filter(|(_, piece)| matches!(piece, Piece::NotRun)).count();
        run += blocks - not;
        marked += not;
        if blocks > not {
            faults.extend(Page::new().play(&pieces).err().map(|fault| format!("{name}:{fault}")));
        }
    }
    println!("blocks of commands in the guide: {run} run, {marked} marked with why they are not");
    assert!(run >= 20, "{run}");
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
}

/// Lines with commands that are in no block of commands.
fn loose(text: &str) -> Vec<usize> {
    let is_command = |line: &str| line.starts_with("    $ ") || line.starts_with("    phalanx ");
    let lines = text.lines().enumerate();
    lines.filter(|(_, line)| is_command(line)).map(|(number, _)| number + 1).collect()
}

/// What counts on a page, and how many blocks of commands there are.
fn pieces(text: &str) -> (Vec<(usize, Piece)>, usize) {
    let (mut found, mut blocks) = (Vec::new(), 0);
    let lines: Vec<&str> = text.lines().collect();
    let mut name = None;
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        at += 1;
        if let Some(command) = line.strip_prefix("<!-- run $ ") {
            let command = command.trim_end_matches(" -->").to_owned();
            found.push((at, Piece::Command(command, None)));
        } else if let Some(language) = line.strip_prefix("```") {
            let end = lines[at..].iter().position(|line| line.starts_with("```")).unwrap() + at;
            let body = &lines[at..end];
            match (language, name.take()) {
                ("console", _) => {
                    blocks += 1;
                    block(at, body, &mut found);
                }
                (_, Some(name)) => found.push((at, Piece::File(name, body.join("\n") + "\n"))),
                _ => {}
            }
            at = end + 1;
        } else if line.starts_with('`') && line.ends_with(':') {
            name = line.split('`').nth(1).map(str::to_owned);
        } else if !line.is_empty() {
            name = None;
        }
    }
    (found, blocks)
}

fn block(at: usize, body: &[&str], found: &mut Vec<(usize, Piece)>) {
    if body.first().is_some_and(|line| line.starts_with("# not run here: ")) {
        return found.push((at, Piece::NotRun));
    }
    for (number, line) in body.iter().enumerate() {
        match (line.strip_prefix("$ "), found.last_mut()) {
            (Some(command), _) => {
                found.push((at + number + 1, Piece::Command(command.to_owned(), Some(Vec::new()))));
            }
            (None, Some((_, Piece::Command(_, Some(shown))))) if number > 0 => shown.push((*line).to_owned()),
            _ => panic!("line {}: a block of commands begins with `$ `", at + number + 1),
        }
    }
}

/// A page that is played.
struct Page {
    folder: tempfile::TempDir,
    app: App,
    node: Option<Node>,
    /// The latest id that something printed.
    id: String,
}

impl Page {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "bin",
            "state",
            "etc/phalanx",
            "etc/nginx",
            "etc/haproxy",
            "var/lib/phalanx",
            "var/log/phalanx",
            "backup",
        ] {
            std::fs::create_dir_all(folder.path().join(name)).unwrap();
        }
        std::os::unix::fs::symlink(binary(), folder.path().join("bin/phalanx")).unwrap();
        Self { folder, app: App::start(), node: None, id: String::new() }
    }

    fn play(mut self, pieces: &[(usize, Piece)]) -> Result<(), String> {
        for (line, piece) in pieces {
            match piece {
                Piece::File(name, text) => {
                    let path = self.folder.path().join(name);
                    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                    std::fs::write(path, self.here(text)).unwrap();
                }
                Piece::Command(command, shown) => {
                    self.command(command, shown.as_deref())
                        .map_err(|fault| format!("{line}: $ {command}\n{fault}"))?;
                }
                Piece::NotRun => {}
            }
        }
        Ok(())
    }

    fn command(&mut self, command: &str, shown: Option<&[String]>) -> Result<(), String> {
        if command.starts_with("phalanx up ") || command.starts_with("phalanx run ") {
            self.node = None;
            let typed = self.here(command);
            self.node = Some(self.start(&typed));
            let silent = shown.is_none_or(<[String]>::is_empty);
            return if silent {
                Ok(())
            } else {
                Err("what a node prints when it starts is not compared".to_owned())
            };
        }
        let typed = self.here(command);
        let mut shell = self.shell(&typed);
        let output = shell.output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout);
        if let Some(id) = ids(&told).last() {
            self.id = (*id).to_owned();
        }
        let (lines, code) = expected(shown.unwrap_or_default());
        if output.status.code() != Some(code) {
            return Err(format!("ended with {}, not {code}:\n{told}", output.status));
        }
        // A command alone need not show what it prints.
        let told = self.there(&told);
        let came: Vec<String> = told.lines().map(plain).collect();
        let wanted: Vec<String> = lines.iter().map(|line| plain(line)).collect();
        match wanted.is_empty() || fits(&wanted, &came) {
            true => Ok(()),
            false => Err(format!("printed, instead of what the page shows:\n{told}")),
        }
    }

    fn shell(&self, typed: &str) -> Command {
        let folder = self.folder.path();
        let path = format!("{}:{}", folder.join("bin").display(), std::env::var("PATH").unwrap());
        let mut shell = Command::new("timeout");
        // As on a terminal, in the order in which it comes.
        shell.args(["60", "sh", "-c", &format!("exec 2>&1\n{typed}")]).current_dir(folder);
        self.at_home(&mut shell);
        shell.env("PATH", path).env("REPO", root());
        shell
    }

    fn at_home(&self, command: &mut Command) {
        command.env("HOME", self.folder.path()).env("XDG_STATE_HOME", self.folder.path().join("state"));
    }

    fn start(&self, typed: &str) -> Node {
        let typed = listening_anywhere(typed);
        let mut words: Vec<&str> = typed.split_whitespace().skip(1).collect();
        words.push("--json");
        if words[0] == "up" {
            for option in ["--listen", "--admin"] {
                if !words.contains(&option) {
                    words.extend([option, "127.0.0.1:0"]);
                }
            }
        }
        if let [_, "-c", file, ..] = words.as_slice() {
            let file = self.folder.path().join(file);
            let text = std::fs::read_to_string(&file).unwrap();
            std::fs::write(&file, listening_anywhere(&text)).unwrap();
        }
        let mut command = phalanx(&words);
        command.current_dir(self.folder.path());
        self.at_home(&mut command);
        Node::start(command)
    }

    /// What is another here than on the page: on the page, and here.
    fn others(&self) -> Vec<(String, String)> {
        let folder = self.folder.path().display().to_string();
        let mut others = vec![("http://127.0.0.1:3000".to_owned(), self.app.url.clone())];
        for place in
            ["/etc/phalanx", "/etc/nginx", "/etc/haproxy", "/var/lib/phalanx", "/var/log/phalanx", "/backup"]
        {
            others.push((place.to_owned(), format!("{folder}{place}")));
        }
        if let Some(node) = &self.node {
            let mut at = |page: &str, here: SocketAddr| others.push((page.to_owned(), here.to_string()));
            at("127.0.0.1:8080", node.listen);
            at("127.0.0.1:8900", node.admin);
            at("localhost:8900", SocketAddr::new(node.admin.ip(), node.admin.port()));
            if let Some(tls) = node.tls_listen {
                at("127.0.0.1:8443", tls);
            }
        }
        others
    }

    fn here(&self, text: &str) -> String {
        let mut text =
            self.others().iter().fold(text.to_owned(), |text, (page, here)| text.replace(page, here));
        let on_page: Vec<String> = ids(&text).into_iter().map(str::to_owned).collect();
        if !self.id.is_empty() {
            for id in on_page {
                text = text.replace(&id, &self.id);
            }
            let words = text.split(' ').map(|word| if word == "ID" { self.id.as_str() } else { word });
            text = words.collect::<Vec<_>>().join(" ");
        }
        text
    }

    fn there(&self, text: &str) -> String {
        let mut text = text.to_owned();
        if let Some(node) = &self.node {
            text = text.replace(&format!("localhost:{}", node.admin.port()), "localhost:8900");
        }
        self.others()
            .iter()
            .filter(|(page, _)| page != "localhost:8900")
            .fold(text, |text, (page, here)| text.replace(here, page))
    }
}

/// Listeners on free ports.
fn listening_anywhere(text: &str) -> String {
    let pages = ["0.0.0.0:8080", "0.0.0.0:8443", "127.0.0.1:8080", "127.0.0.1:8900"];
    pages.iter().fold(text.to_owned(), |text, page| text.replace(page, "127.0.0.1:0"))
}

/// The lines that are to come, and the exit code.
fn expected(shown: &[String]) -> (Vec<&str>, i32) {
    let code = shown.iter().find_map(|line| line.strip_prefix("# exit code ")?.parse().ok()).unwrap_or(0);
    let lines = shown.iter().map(String::as_str).filter(|line| !line.starts_with("# exit code "));
    (lines.filter(|line| !line.trim().is_empty()).collect(), code)
}

/// A line without what differs each time: widths of columns, and ids.
fn plain(line: &str) -> String {
    let line = ids(line).iter().fold(line.to_owned(), |line, id| line.replace(id, "ID"));
    line.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Ids of requests and decisions: 26 characters of Crockford's alphabet.
fn ids(text: &str) -> Vec<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric());
    let is_id = |word: &&str| {
        word.len() == 26
            && word.starts_with("01")
            && word.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
    };
    words.filter(is_id).collect()
}

/// Whether lines are as the page shows them.
fn fits(wanted: &[String], came: &[String]) -> bool {
    let Some((first, others)) = wanted.split_first() else { return came.iter().all(|line| line.is_empty()) };
    if first == "..." {
        return (0..=came.len()).any(|skipped| fits(others, &came[skipped..]));
    }
    match came.split_first() {
        Some((line, rest)) if line.is_empty() => fits(wanted, rest),
        Some((line, rest)) => fits_line(first, line) && fits(others, rest),
        None => false,
    }
}

/// Whether a line is as the page shows it, where `...` stands for anything.
fn fits_line(wanted: &str, came: &str) -> bool {
    match wanted.split_once("...") {
        None => wanted == came,
        Some((before, after)) => came.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len()).filter(|at| rest.is_char_boundary(*at)).any(|at| fits_line(after, &rest[at..]))
        }),
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

#[test]
fn what_a_page_shows_is_compared_with_what_comes() {
    let lines = |text: &str| text.lines().map(plain).collect::<Vec<_>>();
    let check = |wanted: &str, came: &str| fits(&lines(wanted), &lines(came));
    assert!(check("A  B\n1  2", "A     B\n1     2\n"));
    assert!(check("a\n...\nd", "a\nb\nc\nd"));
    assert!(check("for ... ms, 01M80A2FRN3W1NT1822FK6NHPD", "for 12 ms, 01M80A2FRN3W1NT1822FK6NHPX"));
    assert!(!check("a\nb", "a\nc"));
    assert!(!check("a", "a\nb"));
    assert!(!check("a\nb", "a"));
    assert!(!check("a ... c", "a b"));
}
