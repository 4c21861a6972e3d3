//! The PCRE dialect to a tree of bytes.
//!
//! As PCRE2 without `UTF` reads it: a pattern is bytes, classes and case are ASCII. What has no bounded meaning here
//! (recursion, conditions, verbs, `\K`, `\G`, `\X`, Unicode properties) is refused with its place.

use super::ast::{Greed, Node, Place, Times};
use super::byte_set::ByteSet;
use super::class;
use super::{Flags, PatternError};

/// A pattern read.
pub(super) struct Parsed {
    pub(super) node: Node,
    /// Capturing groups, without the whole match.
    pub(super) groups: u32,
}

/// Reads a pattern. An empty one matches everything, as in ModSecurity.
pub(super) fn parse(pattern: &[u8], flags: Flags) -> Result<Parsed, PatternError> {
    let scope = Scope {
        fold_case: flags.case_insensitive,
        dot_all: flags.dot_all,
        multi_line: flags.multi_line,
        extended: false,
        swap_greed: false,
        no_capture: false,
    };
    let pattern = if pattern.is_empty() { b".*" } else { pattern };
    let mut parser = Parser {
        pattern,
        index: 0,
        scope,
        groups: 0,
        names: Vec::new(),
        depth: 0,
        group_count: count_groups(pattern),
    };
    let node = parser.choice()?;
    if parser.index < pattern.len() {
        return Err(parser.error("unmatched closing parenthesis"));
    }
    let groups = parser.groups;
    if let Some(missing) = highest_reference(&node).filter(|&group| group > groups) {
        return Err(parser.error(&format!("reference to group {missing}, which does not exist")));
    }
    Ok(Parsed { node, groups })
}

/// Flags that `(?...)` changes until the end of the group.
#[derive(Clone, Copy)]
struct Scope {
    fold_case: bool,
    dot_all: bool,
    multi_line: bool,
    extended: bool,
    swap_greed: bool,
    no_capture: bool,
}

struct Parser<'a> {
    pattern: &'a [u8],
    index: usize,
    scope: Scope,
    groups: u32,
    names: Vec<(Vec<u8>, u32)>,
    depth: u32,
    /// Groups in the whole pattern, which decides what `\11` means.
    group_count: u32,
}

/// PCRE's own limit on nested parentheses; it also bounds the recursion of everything that walks the tree.
const DEPTH_MAX: u32 = 250;
/// PCRE's limit on a quantifier.
const TIMES_MAX: u32 = 65_535;

impl Parser<'_> {
    fn error(&self, message: &str) -> PatternError {
        PatternError { message: message.to_owned(), offset: self.index.min(self.pattern.len()) }
    }

    fn peek(&self) -> Option<u8> {
        self.pattern.get(self.index).copied()
    }

    fn rest(&self) -> &[u8] {
        self.pattern.get(self.index..).unwrap_or_default()
    }

    fn eat(&mut self, text: &[u8]) -> bool {
        let eaten = self.rest().starts_with(text);
        if eaten {
            self.index += text.len();
        }
        eaten
    }

    /// Everything up to `end`, which is eaten too.
    fn until(&mut self, end: u8, what: &str) -> Result<Vec<u8>, PatternError> {
        let Some(length) = memchr::memchr(end, self.rest()) else { return Err(self.error(what)) };
        let text = self.rest().get(..length).unwrap_or_default().to_vec();
        self.index += length + 1;
        Ok(text)
    }

    fn choice(&mut self) -> Result<Node, PatternError> {
        let mut branches = vec![self.sequence()?];
        while self.eat(b"|") {
            branches.push(self.sequence()?);
        }
        Ok(match branches.pop() {
            Some(only) if branches.is_empty() => only,
            Some(last) => {
                branches.push(last);
                Node::Choice(branches)
            }
            None => Node::Empty,
        })
    }

    fn sequence(&mut self) -> Result<Node, PatternError> {
        let mut nodes = Vec::new();
        while let Some(byte) = self.peek() {
            if byte == b'|' || byte == b')' {
                break;
            }
            if self.scope.extended && self.skip_extended(byte) {
                continue;
            }
            if self.eat(b"\\Q") {
                self.quoted(&mut nodes);
                continue;
            }
            if self.eat(b"\\E") {
                continue;
            }
            let node = self.atom()?;
            let node = self.quantified(node)?;
            if node != Node::Empty {
                nodes.push(node);
            }
        }
        Ok(if nodes.len() == 1 { nodes.pop().unwrap_or(Node::Empty) } else { sequence_of(nodes) })
    }

    /// White space and comments of `(?x)`.
    fn skip_extended(&mut self, byte: u8) -> bool {
        if byte == b'#' {
            self.index += memchr::memchr(b'\n', self.rest()).unwrap_or(self.rest().len());
            return true;
        }
        let space = matches!(byte, b'\t'..=b'\r' | b' ');
        self.index += usize::from(space);
        space
    }

    /// `\Q...\E`; a quantifier after it is about its last byte.
    fn quoted(&mut self, nodes: &mut Vec<Node>) {
        let length = memchr::memmem::find(self.rest(), b"\\E").unwrap_or(self.rest().len());
        let text = self.rest().get(..length).unwrap_or_default().to_vec();
        self.index += length;
        self.eat(b"\\E");
        nodes.extend(text.iter().map(|&byte| self.literal(byte)));
        if let Some(last) = nodes.pop() {
            match self.quantified(last.clone()) {
                Ok(node) => nodes.push(node),
                Err(_) => nodes.push(last),
            }
        }
    }

    fn literal(&self, byte: u8) -> Node {
        let set = ByteSet::single(byte);
        Node::Byte(if self.scope.fold_case { set.fold_case() } else { set })
    }

    fn atom(&mut self) -> Result<Node, PatternError> {
        let Some(byte) = self.peek() else { return Ok(Node::Empty) };
        if byte == b'(' {
            return self.group();
        }
        if matches!(byte, b'*' | b'+' | b'?') {
            return Err(self.error("quantifier without anything to repeat"));
        }
        self.index += 1;
        Ok(match byte {
            b'[' => {
                let set = class::parse(self.pattern, &mut self.index, self.scope.fold_case)?;
                Node::Byte(set)
            }
            b'.' if self.scope.dot_all => Node::Byte(ByteSet::ALL),
            b'.' => Node::Byte(ByteSet::single(b'\n').complement()),
            b'^' if self.scope.multi_line => Node::Place(Place::LineStart),
            b'^' => Node::Place(Place::Start),
            b'$' if self.scope.multi_line => Node::Place(Place::LineEnd),
            b'$' => Node::Place(Place::EndOrFinalLine),
            b'\\' => return self.escape(),
            _ => self.literal(byte),
        })
    }

    fn escape(&mut self) -> Result<Node, PatternError> {
        let Some(byte) = self.peek() else { return Err(self.error("backslash at the end of the pattern")) };
        if let Some(set) = class::shorthand(byte) {
            self.index += 1;
            return Ok(Node::Byte(set));
        }
        let place = match byte {
            b'A' => Some(Place::Start),
            b'z' => Some(Place::End),
            b'Z' => Some(Place::EndOrFinalLine),
            b'b' => Some(Place::WordEdge),
            b'B' => Some(Place::NotWordEdge),
            _ => None,
        };
        if let Some(place) = place {
            self.index += 1;
            return Ok(Node::Place(place));
        }
        match byte {
            b'R' => {
                self.index += 1;
                let crlf =
                    sequence_of(vec![Node::Byte(ByteSet::single(b'\r')), Node::Byte(ByteSet::single(b'\n'))]);
                let other = Node::Byte(ByteSet::of(b"\n\x0b\x0c\r\x85"));
                Ok(Node::Atomic(Box::new(Node::Choice(vec![crlf, other]))))
            }
            b'1'..=b'9' if self.is_numbered_reference() => {
                let number = self.number().unwrap_or(u32::MAX);
                self.reference(number)
            }
            b'g' => self.braced_reference(),
            b'k' => {
                self.index += 1;
                let name = self.name_in_brackets()?;
                self.named_reference(&name)
            }
            b'K' | b'G' | b'X' | b'p' | b'P' | b'L' | b'l' | b'U' | b'u' => {
                Err(self.error(&format!("\\{} is not supported", char::from(byte))))
            }
            b'C' => {
                self.index += 1;
                Ok(Node::Byte(ByteSet::ALL))
            }
            _ => {
                let byte = class::escaped_byte(self.pattern, &mut self.index)?;
                Ok(self.literal(byte))
            }
        }
    }

    /// `\1` to `\9` always refer to a group; a longer number does when there are that many groups, else it is octal.
    fn is_numbered_reference(&self) -> bool {
        let digits = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        let text = self.rest().get(..digits.min(9)).unwrap_or_default();
        let number = text.iter().fold(0u32, |value, digit| value * 10 + u32::from(digit - b'0'));
        digits == 1 || number <= self.group_count
    }

    fn number(&mut self) -> Option<u32> {
        let digits = self.rest().iter().take_while(|byte| byte.is_ascii_digit()).count();
        let text = std::str::from_utf8(self.rest().get(..digits)?).ok()?;
        let number = text.parse().ok()?;
        self.index += digits;
        Some(number)
    }

    fn reference(&self, group: u32) -> Result<Node, PatternError> {
        if group == 0 {
            return Err(self.error("reference to group 0"));
        }
        Ok(Node::Back { group, fold_case: self.scope.fold_case })
    }

    /// `\g1`, `\g{1}`, `\g{-1}`, `\g{name}`.
    fn braced_reference(&mut self) -> Result<Node, PatternError> {
        self.index += 1;
        if matches!(self.peek(), Some(b'<' | b'\'')) {
            return Err(self.error("recursion is not supported"));
        }
        let braced = self.eat(b"{");
        let relative = self.eat(b"-");
        if let Some(number) = self.number() {
            if braced && !self.eat(b"}") {
                return Err(self.error("missing closing brace"));
            }
            let number = if relative { (self.groups + 1).saturating_sub(number) } else { number };
            return self.reference(number);
        }
        if !braced || relative {
            return Err(self.error("a group number is missing after \\g"));
        }
        let name = self.until(b'}', "missing closing brace")?;
        self.named_reference(&name)
    }

    fn named_reference(&self, name: &[u8]) -> Result<Node, PatternError> {
        match self.names.iter().find(|(known, _)| known == name) {
            Some(&(_, group)) => self.reference(group),
            None => Err(self.error("reference to a group name that is not known before it")),
        }
    }

    /// `<name>`, `'name'` or `{name}`.
    fn name_in_brackets(&mut self) -> Result<Vec<u8>, PatternError> {
        let end = match self.peek() {
            Some(b'<') => b'>',
            Some(b'\'') => b'\'',
            Some(b'{') => b'}',
            _ => return Err(self.error("a group name is missing")),
        };
        self.index += 1;
        self.until(end, "a group name is not closed")
    }

    fn group(&mut self) -> Result<Node, PatternError> {
        self.index += 1;
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.error("parentheses are nested too deep"));
        }
        let outer = self.scope;
        let node = if self.rest().starts_with(b"*") {
            return Err(self.error("backtracking verbs are not supported"));
        } else if self.eat(b"?") {
            self.special_group()?
        } else if outer.no_capture {
            Some(self.closed()?)
        } else {
            Some(self.capturing(None)?)
        };
        self.depth -= 1;
        match node {
            Some(node) => {
                self.scope = outer;
                Ok(node)
            }
            // `(?i)`: the flags hold until the end of the group around it.
            None => Ok(Node::Empty),
        }
    }

    fn closed(&mut self) -> Result<Node, PatternError> {
        let node = self.choice()?;
        if self.eat(b")") { Ok(node) } else { Err(self.error("missing closing parenthesis")) }
    }

    fn capturing(&mut self, name: Option<Vec<u8>>) -> Result<Node, PatternError> {
        self.groups += 1;
        let number = self.groups;
        if let Some(name) = name {
            if name.is_empty() || !name.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') {
                return Err(self.error("a group name is letters, digits and underscores"));
            }
            self.names.push((name, number));
        }
        Ok(Node::Group(number, Box::new(self.closed()?)))
    }

    fn around(&mut self, ahead: bool, negated: bool) -> Result<Node, PatternError> {
        Ok(Node::Around { ahead, negated, node: Box::new(self.closed()?) })
    }

    /// What follows `(?`. `None`: only flags or a comment.
    fn special_group(&mut self) -> Result<Option<Node>, PatternError> {
        if self.eat(b"#") {
            self.until(b')', "a comment is not closed")?;
            return Ok(None);
        }
        if self.eat(b":") {
            return self.closed().map(Some);
        }
        if self.eat(b">") {
            return Ok(Some(Node::Atomic(Box::new(self.closed()?))));
        }
        for (mark, ahead, negated) in
            [(&b"="[..], true, false), (b"!", true, true), (b"<=", false, false), (b"<!", false, true)]
        {
            if self.eat(mark) {
                return self.around(ahead, negated).map(Some);
            }
        }
        if self.eat(b"P=") {
            let name = self.until(b')', "a group name is not closed")?;
            return self.named_reference(&name).map(Some);
        }
        let named =
            self.rest().starts_with(b"P<") || self.rest().starts_with(b"<") || self.rest().starts_with(b"'");
        if named {
            self.eat(b"P");
            let name = self.name_in_brackets()?;
            return self.capturing(Some(name)).map(Some);
        }
        self.flags()
    }

    /// `i)`, `-i)`, `i:...)`, `^)`.
    fn flags(&mut self) -> Result<Option<Node>, PatternError> {
        let mut on = true;
        loop {
            let Some(byte) = self.peek() else { return Err(self.error("missing closing parenthesis")) };
            self.index += 1;
            let scope = &mut self.scope;
            match byte {
                b'^' => {
                    *scope = Scope {
                        fold_case: false,
                        dot_all: false,
                        multi_line: false,
                        extended: false,
                        ..*scope
                    };
                }
                b'-' if on => on = false,
                b'i' => scope.fold_case = on,
                b's' => scope.dot_all = on,
                b'm' => scope.multi_line = on,
                b'x' => scope.extended = on,
                b'U' => scope.swap_greed = on,
                b'n' => scope.no_capture = on,
                b'J' => {}
                b')' => return Ok(None),
                b':' => return self.closed().map(Some),
                _ => {
                    self.index -= 1;
                    return Err(self.error("this kind of group is not supported"));
                }
            }
        }
    }

    fn quantified(&mut self, mut node: Node) -> Result<Node, PatternError> {
        loop {
            if self.scope.extended {
                while let Some(byte) = self.peek() {
                    if !self.skip_extended(byte) {
                        break;
                    }
                }
            }
            let Some((min, max)) = self.times()? else { return Ok(node) };
            let greed = if self.eat(b"+") {
                Greed::Possessive
            } else if self.eat(b"?") != self.scope.swap_greed {
                Greed::Lazy
            } else {
                Greed::Greedy
            };
            node = Node::Repeat(Box::new(node), Times { min, max, greed });
        }
    }

    fn times(&mut self) -> Result<Option<(u32, Option<u32>)>, PatternError> {
        let times = match self.peek() {
            Some(b'*') => (0, None),
            Some(b'+') => (1, None),
            Some(b'?') => (0, Some(1)),
            Some(b'{') => return self.braced_times(),
            _ => return Ok(None),
        };
        self.index += 1;
        Ok(Some(times))
    }

    /// `{2}`, `{2,}`, `{2,3}`; any other brace is a literal one.
    fn braced_times(&mut self) -> Result<Option<(u32, Option<u32>)>, PatternError> {
        let start = self.index;
        self.index += 1;
        let min = self.number();
        let max = if self.eat(b",") { self.number().map(Some) } else { Some(min) };
        let (Some(min), true) = (min, self.eat(b"}")) else {
            self.index = start;
            return Ok(None);
        };
        let max = max.flatten();
        if min > TIMES_MAX || max.is_some_and(|max| max > TIMES_MAX) {
            return Err(self.error("a quantifier is above 65535"));
        }
        if max.is_some_and(|max| max < min) {
            return Err(self.error("a quantifier's numbers are out of order"));
        }
        Ok(Some((min, max)))
    }
}

fn sequence_of(nodes: Vec<Node>) -> Node {
    if nodes.is_empty() { Node::Empty } else { Node::Sequence(nodes) }
}

/// How many capturing groups a pattern has; near enough for `\11`, which nobody writes near `(?x)` comments.
fn count_groups(pattern: &[u8]) -> u32 {
    let mut count = 0;
    let mut index = 0;
    let mut in_class = false;
    while let Some(&byte) = pattern.get(index) {
        let rest = pattern.get(index + 1..).unwrap_or_default();
        match byte {
            b'\\' => index += 1,
            b'[' => in_class = true,
            b']' => in_class = false,
            b'(' if !in_class => {
                let named = [&b"?<"[..], b"?P<", b"?'"].iter().any(|mark| rest.starts_with(mark))
                    && !rest.starts_with(b"?<=")
                    && !rest.starts_with(b"?<!");
                count += u32::from(named || !rest.starts_with(b"?"));
            }
            _ => {}
        }
        index += 1;
    }
    count
}

fn highest_reference(node: &Node) -> Option<u32> {
    match node {
        Node::Back { group, .. } => Some(*group),
        Node::Sequence(nodes) | Node::Choice(nodes) => nodes.iter().filter_map(highest_reference).max(),
        Node::Group(_, node) | Node::Repeat(node, _) | Node::Atomic(node) | Node::Around { node, .. } => {
            highest_reference(node)
        }
        Node::Empty | Node::Byte(_) | Node::Place(_) => None,
    }
}
