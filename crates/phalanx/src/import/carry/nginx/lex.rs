//! nginx's configuration as a tree: directives with words, and blocks.

use std::iter::Peekable;
use std::str::CharIndices;
use std::sync::Arc;

use super::super::note::{Notes, Place};
use super::super::{BYTES_MAX, DEPTH_MAX, FILES_MAX, Files};

/// One directive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Directive {
    pub(crate) place: Place,
    pub(crate) name: String,
    pub(crate) args: Vec<String>,
    /// What stands in its braces, if it has any.
    pub(crate) block: Option<Vec<Directive>>,
}

impl Directive {
    /// An argument; empty if there are not so many.
    pub(crate) fn arg(&self, place: usize) -> &str {
        self.args.get(place).map_or("", String::as_str)
    }

    /// The directive as it was written, without its block.
    pub(crate) fn words(&self) -> String {
        let mut words = self.name.clone();
        for arg in &self.args {
            words.push(' ');
            words.push_str(arg);
        }
        // The list is read by people.
        match words.char_indices().nth(WORDS_CHARS_MAX) {
            Some((end, _)) => format!("{}...", words.get(..end).unwrap_or_default()),
            None => words,
        }
    }
}

/// Reads a file with all that it includes.
pub(crate) fn read(name: &str, text: &str, files: &mut dyn Files, notes: &mut Notes) -> Vec<Directive> {
    let mut reader = Reader { files, notes, bytes: 0, count: 0 };
    reader.file(name, text, 0)
}

struct Reader<'a> {
    files: &'a mut dyn Files,
    notes: &'a mut Notes,
    bytes: usize,
    count: usize,
}

impl Reader<'_> {
    fn file(&mut self, name: &str, text: &str, depth: usize) -> Vec<Directive> {
        self.bytes = self.bytes.saturating_add(text.len());
        self.count += 1;
        let start = Place { file: name.into(), line: 1 };
        if self.bytes > BYTES_MAX || self.count > FILES_MAX || depth >= DEPTH_MAX {
            let help = "import parts of it apart from each other";
            self.notes.add(
                &start,
                "there are too many files, or they are too large: this one was not read",
                help,
            );
            return Vec::new();
        }
        let mut lexer = Lexer::new(Arc::clone(&start.file), text);
        let directives = lexer.block(0, self.notes);
        self.with_includes(directives, depth)
    }

    /// Puts what files hold into the place where they are included.
    fn with_includes(&mut self, directives: Vec<Directive>, depth: usize) -> Vec<Directive> {
        let mut out = Vec::with_capacity(directives.len());
        for mut directive in directives {
            if directive.name == "include" && directive.block.is_none() {
                self.include(&directive, depth, &mut out);
                continue;
            }
            directive.block = directive.block.take().map(|block| self.with_includes(block, depth));
            out.push(directive);
        }
        out
    }

    fn include(&mut self, directive: &Directive, depth: usize, out: &mut Vec<Directive>) {
        let pattern = directive.arg(0);
        // Types of files that a server has, not a proxy.
        if pattern.ends_with("mime.types") {
            return;
        }
        match self.files.read(pattern) {
            Ok(files) => {
                for (name, text) in files {
                    out.extend(self.file(&name, &text, depth + 1));
                }
            }
            Err(error) => {
                let what = format!("`include {pattern}` was not read: {error}");
                self.notes.add(
                    &directive.place,
                    what,
                    "import on the machine that has the file, or copy it here",
                );
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    End,
    Open,
    Close,
}

struct Lexer<'a> {
    chars: Peekable<CharIndices<'a>>,
    file: Arc<str>,
    line: u32,
}

impl<'a> Lexer<'a> {
    fn new(file: Arc<str>, text: &'a str) -> Self {
        Self { chars: text.char_indices().peekable(), file, line: 1 }
    }

    fn place(&self) -> Place {
        Place { file: Arc::clone(&self.file), line: self.line }
    }

    fn bump(&mut self) -> Option<char> {
        let (_, c) = self.chars.next()?;
        if c == '\n' {
            self.line = self.line.saturating_add(1);
        }
        Some(c)
    }

    fn peek(&mut self) -> Option<char> {
        self.chars.peek().map(|(_, c)| *c)
    }

    /// The directives up to the brace that closes this block, or to the end of the file.
    fn block(&mut self, depth: usize, notes: &mut Notes) -> Vec<Directive> {
        let mut directives = Vec::new();
        let mut words: Vec<String> = Vec::new();
        let mut place = self.place();
        loop {
            let token = self.token();
            if words.is_empty() {
                place = self.place();
            }
            let Some(token) = token else {
                if depth > 0 || !words.is_empty() {
                    notes.add(&place, "the file ends in the middle of a directive or block", CHECK);
                }
                return directives;
            };
            match token {
                Token::Word(word) => words.push(word),
                Token::End => directives.extend(directive(&place, &mut words, None)),
                Token::Open => {
                    let foreign = words.first().is_some_and(|name| name.ends_with("_by_lua_block"));
                    let block = if foreign || depth >= DEPTH_MAX {
                        self.skip_braces();
                        Vec::new()
                    } else {
                        self.block(depth + 1, notes)
                    };
                    directives.extend(directive(&place, &mut words, Some(block)));
                }
                Token::Close => {
                    if !words.is_empty() {
                        notes.add(&place, "a `;` is missing", CHECK);
                    }
                    if depth > 0 {
                        return directives;
                    }
                    notes.add(&place, "a `}` closes nothing", CHECK);
                    words.clear();
                }
            }
        }
    }

    /// What stands in braces is no nginx: everything up to the one that closes.
    fn skip_braces(&mut self) {
        let mut open = 1usize;
        while open > 0 {
            match self.bump() {
                Some('{') => open += 1,
                Some('}') => open -= 1,
                Some(quote @ ('"' | '\'')) => drop(self.quoted(quote)),
                Some(_) => {}
                None => return,
            }
        }
    }

    fn token(&mut self) -> Option<Token> {
        loop {
            match self.peek()? {
                c if c.is_whitespace() => {
                    self.bump();
                }
                '#' => {
                    while self.peek().is_some_and(|c| c != '\n') {
                        self.bump();
                    }
                }
                _ => break,
            }
        }
        let first = self.bump()?;
        Some(match first {
            ';' => Token::End,
            '{' => Token::Open,
            '}' => Token::Close,
            '"' | '\'' => Token::Word(self.quoted(first)),
            other => Token::Word(self.bare(other)),
        })
    }

    fn quoted(&mut self, quote: char) -> String {
        let mut word = String::new();
        while let Some(c) = self.bump() {
            match c {
                c if c == quote => break,
                '\\' => self.escaped(&mut word),
                c => word.push(c),
            }
        }
        word
    }

    fn bare(&mut self, first: char) -> String {
        let mut word = String::new();
        let mut before = first;
        if first == '\\' {
            self.escaped(&mut word);
        } else {
            word.push(first);
        }
        while let Some(c) = self.peek() {
            // `${name}` is a variable, not a block.
            if c.is_whitespace() || c == ';' || c == '{' && before != '$' {
                break;
            }
            self.bump();
            match c {
                '\\' => self.escaped(&mut word),
                '{' => {
                    word.push(c);
                    while let Some(c) = self.bump() {
                        word.push(c);
                        if c == '}' {
                            break;
                        }
                    }
                }
                c => word.push(c),
            }
            before = c;
        }
        word
    }

    /// As nginx does: quotes and backslashes lose theirs, others keep it, as regular expressions need it.
    fn escaped(&mut self, word: &mut String) {
        match self.bump() {
            Some('t') => word.push('\t'),
            Some('r') => word.push('\r'),
            Some('n') => word.push('\n'),
            Some(c @ ('"' | '\'' | '\\')) => word.push(c),
            Some(c) => {
                word.push('\\');
                word.push(c);
            }
            None => word.push('\\'),
        }
    }
}

fn directive(place: &Place, words: &mut Vec<String>, block: Option<Vec<Directive>>) -> Option<Directive> {
    let mut words = std::mem::take(words).into_iter();
    let name = words.next()?;
    Some(Directive { place: place.clone(), name, args: words.collect(), block })
}

const CHECK: &str = "see what `nginx -t` says";
const WORDS_CHARS_MAX: usize = 160;

#[cfg(test)]
mod tests {
    use super::*;

    struct Two;

    impl Files for Two {
        fn read(&mut self, pattern: &str) -> Result<Vec<(String, String)>, String> {
            match pattern {
                "loop" => Ok(vec![("loop".into(), "include loop;".into())]),
                "sites/*" => Ok(vec![("a".into(), "x 1;\n".into()), ("b".into(), "\ny 2;".into())]),
                _ => Err("there is no such file".into()),
            }
        }
    }

    fn tree(text: &str) -> (Vec<Directive>, Vec<String>) {
        let mut notes = Notes::default();
        let read = read("n", text, &mut Two, &mut notes);
        (read, notes.in_order().iter().map(ToString::to_string).collect())
    }

    #[test]
    fn words_quotes_comments_and_variables_are_read() {
        let (read, notes) = tree(
            "# c\na \"b ;{\\\"\" 'd' ${e}f \\.php$; # c\nlog_by_lua_block { if x then { y } end }\ng { h; }",
        );
        assert!(notes.is_empty(), "{notes:?}");
        assert_eq!(read[0].args, ["b ;{\"", "d", "${e}f", "\\.php$"]);
        assert_eq!((read[0].place.line, read[1].block.as_deref()), (2, Some(&[][..])));
        assert_eq!((read[2].name.as_str(), read[2].block.as_ref().unwrap()[0].name.as_str()), ("g", "h"));
    }

    #[test]
    fn included_files_stand_where_they_are_included() {
        let (read, notes) = tree("http { include sites/*; include gone; include mime.types; }");
        let inner = read[0].block.as_ref().unwrap();
        assert_eq!(
            (inner[0].name.as_str(), inner[1].place.file.as_ref(), inner[1].place.line),
            ("x", "b", 2)
        );
        assert_eq!(notes.len(), 1);
        assert!(notes[0].starts_with("n:1: `include gone` was not read"), "{notes:?}");
    }

    #[test]
    fn what_has_no_end_ends() {
        let (_, notes) = tree("include loop;");
        assert!(notes[0].contains("too many files"), "{notes:?}");
        let (_, notes) = tree(&"a { ".repeat(1_000));
        assert!(!notes.is_empty());
        for broken in ["a", "}", "a { b", "a \"", "a \\", "a } b;", ";;{}", "a ${b"] {
            tree(broken);
        }
    }
}
