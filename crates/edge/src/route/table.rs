//! The routes of one app by path: a tree of segments, so that what a request pays depends on the depth of its path and not on the
//! number of routes.
//!
//! Servers do not agree on what separates segments: to some `%2f` does and `;` begins a parameter, to others both are part of a name. A path
//! is looked up in both readings. Where they meet different routes the request is refused: whichever the app takes, nobody is let past
//! the route that protects it by writing a path in a way that we read differently.

use std::cell::Cell;
use std::hash::Hash;

use hashbrown::{Equivalent, HashMap};
use phalanx_decide::rate::path::{Separators, normalise};
use phalanx_model::RequestHead;
use phalanx_model::limits::ROUTE_DEPTH_MAX;
use phalanx_policy::PathPattern;
use phalanx_policy::route::{ClientScheme, Ends, FieldIs, Rest, When};

/// What a route is looked for by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) head: &'a RequestHead,
    /// The client came over TLS.
    pub(crate) secure: bool,
}

/// The routes of one app.
#[derive(Debug)]
pub(crate) struct RouteTable {
    edges: HashMap<Edge, u32>,
    nodes: Vec<Vec<Candidate>>,
    /// Those of all routes, each once.
    patterns: Vec<PathPattern>,
    ignore_case: bool,
}

/// Two readings of a path meet different routes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ambiguous;

/// A route at a node.
#[derive(Debug)]
struct Candidate {
    ends: Ends,
    route: u32,
    /// The place of the pattern that the path must match.
    pattern: Option<u32>,
    /// What is asked beyond the path; `None` for nothing.
    when: Option<Box<When>>,
}

/// What is known of the patterns for one reading of a path, as bits in their order: each is tried once at most, however many routes
/// have it.
#[derive(Debug, Default)]
struct Known {
    tried: Cell<u64>,
    matched: Cell<u64>,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Edge {
    from: u32,
    segment: Box<[u8]>,
}

#[derive(Hash)]
struct EdgeTo<'a> {
    from: u32,
    segment: &'a [u8],
}

impl Equivalent<Edge> for EdgeTo<'_> {
    fn equivalent(&self, key: &Edge) -> bool {
        self.from == key.from && *self.segment == *key.segment
    }
}

impl RouteTable {
    /// A table of routes with their numbers, in the order in which policy has them.
    pub(crate) fn new(routes: impl IntoIterator<Item = (u32, When)>) -> Self {
        let (edges, nodes, patterns) = (HashMap::new(), vec![Vec::new()], Vec::new());
        let mut table = Self { edges, nodes, patterns, ignore_case: false };
        for (route, when) in routes {
            table.ignore_case |= when.ignore_case;
            let (node, ends) = (table.node_of(&when), when.ends());
            let pattern = when.pattern.as_ref().map(|pattern| table.place_of(pattern));
            let when = (!when.is_path_only()).then(|| Box::new(when));
            if let Some(candidates) = table.nodes.get_mut(node as usize) {
                candidates.push(Candidate { ends, route, pattern, when });
            }
        }
        for candidates in &mut table.nodes {
            candidates.sort_by_key(|candidate| candidate.ends);
            candidates.shrink_to_fit();
        }
        table
    }

    /// The place of a pattern, which it gets if it has none.
    fn place_of(&mut self, pattern: &PathPattern) -> u32 {
        let place = self.patterns.iter().position(|known| known == pattern).unwrap_or_else(|| {
            self.patterns.push(pattern.clone());
            self.patterns.len() - 1
        });
        u32::try_from(place).unwrap_or(u32::MAX)
    }

    fn node_of(&mut self, when: &When) -> u32 {
        let mut node = 0;
        for segment in when.node() {
            let next = u32::try_from(self.nodes.len()).unwrap_or(u32::MAX);
            let edge = Edge { from: node, segment: segment.into_bytes().into() };
            node = *self.edges.entry(edge).or_insert(next);
            if node == next {
                self.nodes.push(Vec::new());
            }
        }
        node
    }

    /// The route that a request meets: of the longest path first, then in the order of the policy.
    pub(crate) fn find(&self, asked: &Asked<'_>) -> Result<Option<u32>, Ambiguous> {
        let found = |path: &[u8]| {
            let known = Known::default();
            self.walk(path, |candidate| self.fits(candidate, path, asked, &known).is_ok())
        };
        if let Some(path) = plain_path(asked.head.target())
            && !self.ignore_case
        {
            return Ok(found(path));
        }
        let (one, other) = self.readings(asked.head.target());
        let route = found(&one);
        let same = one == other || route == found(&other);
        // To a server in C a path may end where others go on, and to some expressions a line does.
        let ends = |byte: u8| byte == 0 || byte == b'\n' && !self.patterns.is_empty();
        if same && !one.iter().any(|byte| ends(*byte)) { Ok(route) } else { Err(Ambiguous) }
    }

    /// Both readings of a target's path, as segments compare; empty where it has none.
    pub(crate) fn readings(&self, target: &[u8]) -> (Vec<u8>, Vec<u8>) {
        let (mut any, mut slash) = (Vec::new(), Vec::new());
        normalise(target, Separators::Any, &mut any);
        normalise(target, Separators::Slash, &mut slash);
        // A parameter is no part of a segment's name to either.
        let mut in_parameter = false;
        slash.retain(|byte| {
            in_parameter = *byte != b'/' && (in_parameter || *byte == b';');
            !in_parameter
        });
        if self.ignore_case {
            any.make_ascii_lowercase();
            slash.make_ascii_lowercase();
        }
        (any, slash)
    }

    /// The routes whose path fits, in the order in which they are tried, with what speaks against each.
    pub(crate) fn tried(&self, path: &[u8], asked: &Asked<'_>) -> Vec<(u32, Result<(), String>)> {
        let mut tried = Vec::new();
        let known = Known::default();
        self.walk(path, |candidate| {
            let fits = self.fits(candidate, path, asked, &known);
            let met = fits.is_ok();
            tried.push((candidate.route, fits.map_err(|against| against.to_string())));
            met
        });
        tried
    }

    /// Whether what a route asks beyond its place in the tree holds.
    fn fits<'a>(
        &'a self,
        candidate: &'a Candidate,
        path: &[u8],
        asked: &Asked<'_>,
        known: &Known,
    ) -> Result<(), Against<'a>> {
        let Some(when) = &candidate.when else { return Ok(()) };
        holds(when, path, asked)?;
        let Some(place) = candidate.pattern else { return Ok(()) };
        let Some(pattern) = self.patterns.get(place as usize) else { return Ok(()) };
        if known.matches(place, pattern, path) { Ok(()) } else { Err(Against::Pattern(pattern.as_str())) }
    }

    /// Goes down the path, then back up, until a route is taken.
    fn walk(&self, path: &[u8], mut takes: impl FnMut(&Candidate) -> bool) -> Option<u32> {
        let mut left = path.strip_prefix(b"/")?;
        let mut met = [(0, if left.is_empty() { Rest::Nothing } else { Rest::More }); ROUTE_DEPTH_MAX + 1];
        let (mut node, mut depth) = (0, 0);
        while !left.is_empty() && depth < ROUTE_DEPTH_MAX {
            let end = memchr::memchr(b'/', left).unwrap_or(left.len());
            let (segment, after) = left.split_at_checked(end).unwrap_or((left, b""));
            let Some(next) = self.edges.get(&EdgeTo { from: node, segment }) else { break };
            let rest = Rest::of(after);
            left = after.strip_prefix(b"/").unwrap_or_default();
            node = *next;
            depth += 1;
            if let Some(place) = met.get_mut(depth) {
                *place = (node, rest);
            }
        }
        for (node, rest) in met.get(..=depth).unwrap_or_default().iter().rev() {
            let candidates = self.nodes.get(*node as usize).map(Vec::as_slice).unwrap_or_default();
            for candidate in candidates.iter().filter(|candidate| candidate.ends.fits(*rest)) {
                if takes(candidate) {
                    return Some(candidate.route);
                }
            }
        }
        None
    }

    /// About how many bytes it takes.
    pub(crate) fn memory(&self) -> usize {
        let edge = |edge: &Edge| edge.segment.len() + size_of::<(Edge, u32)>();
        let edges: usize = self.edges.keys().map(edge).sum();
        let candidates: usize = self.nodes.iter().map(|node| node.capacity() * size_of::<Candidate>()).sum();
        edges + candidates + self.nodes.capacity() * size_of::<Vec<Candidate>>()
    }
}

impl Known {
    fn matches(&self, place: u32, pattern: &PathPattern, path: &[u8]) -> bool {
        // Policy lets no app have more than there are bits.
        let bit = 1_u64.checked_shl(place).unwrap_or_default();
        if self.tried.get() & bit != 0 {
            return self.matched.get() & bit != 0;
        }
        let matches = pattern.is_match(path);
        self.tried.set(self.tried.get() | bit);
        self.matched.set(self.matched.get() | if matches { bit } else { 0 });
        matches
    }
}

/// What of a route's conditions does not hold.
#[derive(Debug, Clone, Copy)]
enum Against<'a> {
    Suffix(&'a str),
    Pattern(&'a str),
    Method,
    Scheme,
    Header(&'a str),
}

impl std::fmt::Display for Against<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Suffix(suffix) => write!(f, "the path does not end with {suffix}"),
            Self::Pattern(pattern) => write!(f, "the path does not match {pattern}"),
            Self::Method => f.write_str("it is for other methods"),
            Self::Scheme => f.write_str("it is for the other scheme"),
            Self::Header(name) => write!(f, "the field {name} is not as it asks"),
        }
    }
}

/// Whether what a route asks beyond its path and pattern holds.
fn holds<'a>(when: &'a When, path: &[u8], asked: &Asked<'_>) -> Result<(), Against<'a>> {
    let method = asked.head.method();
    if !when.methods.is_empty() && !when.methods.iter().any(|known| known.as_bytes() == method) {
        return Err(Against::Method);
    }
    if let Some(suffix) = &when.suffix {
        let end = path.len().checked_sub(suffix.len()).and_then(|at| path.get(at..)).unwrap_or_default();
        let same = match when.ignore_case {
            true => end.eq_ignore_ascii_case(suffix.as_bytes()),
            false => end == suffix.as_bytes(),
        };
        if !same {
            return Err(Against::Suffix(suffix));
        }
    }
    if when.scheme.is_some_and(|scheme| (scheme == ClientScheme::Https) != asked.secure) {
        return Err(Against::Scheme);
    }
    for header in &when.headers {
        let is_named = |name: &[u8]| name.eq_ignore_ascii_case(header.name.as_bytes());
        let mut values = asked.head.headers().filter(|(name, _)| is_named(name)).map(|(_, value)| value);
        let is_so = match &header.is {
            FieldIs::Present => values.next().is_some(),
            FieldIs::Absent => values.next().is_none(),
            FieldIs::Equal(wanted) => values.any(|value| value == wanted.as_bytes()),
        };
        if !is_so {
            return Err(Against::Header(&header.name));
        }
    }
    Ok(())
}

/// The path of a target that all servers read alike, as most are: it begins with `/` and has nothing in it that some servers decode,
/// resolve or leave out.
fn plain_path(target: &[u8]) -> Option<&[u8]> {
    if target.first() != Some(&b'/') {
        return None;
    }
    let mut before = 0;
    for (at, byte) in target.iter().enumerate() {
        match byte {
            b'?' | b'#' => return target.get(..at),
            b'%' | b'\\' | b';' | 0 => return None,
            b'/' | b'.' if before == b'/' => return None,
            _ => before = *byte,
        }
    }
    Some(target)
}

#[cfg(test)]
mod tests;
