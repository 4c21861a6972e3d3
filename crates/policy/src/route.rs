//! Routes: what an app does with requests to some of its paths.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use crate::balance::Upstreams;
use crate::challenge::ChallengeUse;
use crate::handling::{Handling, Template};
use crate::networks::Networks;
use crate::path_pattern::PathPattern;
use crate::policy::{Classes, Limits, Mode, OnError, RuleSource};

/// One route of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Route {
    /// Its name in events and reports.
    pub name: String,
    /// Which requests it is about.
    pub when: When,
    /// Where it differs from its app in what protects it, in limits or in upstreams.
    pub own: Option<Box<Own>>,
    /// What becomes of a request that nothing refuses.
    pub does: Does,
    /// What is done beyond; the app's, with what the route says of its own.
    pub handling: Arc<Handling>,
}

/// Which requests a route is about. All of it must hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct When {
    /// The path, decoded and without `//`, `.` and `..`.
    pub path: String,
    /// That path alone, and not those below it.
    pub exact: bool,
    /// What the path ends with.
    pub suffix: Option<String>,
    /// What the path matches.
    pub pattern: Option<PathPattern>,
    /// The methods; none means all.
    pub methods: Vec<String>,
    /// What header fields must be like.
    pub headers: Vec<HeaderIs>,
    /// How the client came, as far as that is known.
    pub scheme: Option<ClientScheme>,
    /// Letters of paths compare without case.
    pub ignore_case: bool,
}

/// What a header field must be like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HeaderIs {
    /// Its name; names compare without case.
    pub name: String,
    /// What is asked of it.
    pub is: FieldIs,
}

/// What is asked of a header field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FieldIs {
    /// There is one.
    Present,
    /// There is none.
    Absent,
    /// There is one with exactly this value.
    Equal(String),
}

/// How a client came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientScheme {
    /// Without TLS.
    Http,
    /// With TLS, or so says a trusted forwarder.
    Https,
}

/// A route's own protection, limits and upstreams: all that holds for it, what the app says included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Own {
    /// What is done with a request that the rules refuse.
    pub mode: Mode,
    /// The rules.
    pub rules: RuleSource,
    /// Rule files loaded after them.
    pub extra_rules: Vec<PathBuf>,
    /// The Core Rule Set's paranoia level.
    pub paranoia: u8,
    /// The level while an order raises the app's, above `paranoia`.
    pub raise_paranoia: Option<u8>,
    /// What is done with a match, by the class of its rule.
    pub classes: Classes,
    /// What is done when a rule or parser fails.
    pub on_error: OnError,
    /// Which clients are challenged.
    pub challenge: ChallengeUse,
    /// Who may ask at all.
    pub networks: Networks,
    /// How much is taken, held and waited for.
    pub limits: Limits,
    /// Where requests go; `None` for the app's.
    pub upstreams: Option<Upstreams>,
}

/// What becomes of a request that nothing refuses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Does {
    /// It goes to an upstream.
    Forward {
        /// What stands in the place of the route's path.
        rewrite: Option<String>,
    },
    /// The client is sent elsewhere.
    Redirect {
        /// Where to.
        to: Template,
        /// 301, 302, 303, 307 or 308.
        status: u16,
    },
    /// It is answered here.
    Reply(StaticReply),
}

/// An answer that stands in the policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct StaticReply {
    /// Its status, 200 to 599.
    pub status: u16,
    /// Its `Content-Type`.
    pub content_type: String,
    /// Its body.
    pub body: ReplyBody,
}

/// The body of an answer that stands in the policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReplyBody {
    /// This.
    Text(String),
    /// The content of a file, as it is when the policy is loaded.
    File(PathBuf),
}

impl When {
    /// All requests to a path and below it.
    pub fn below(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            exact: false,
            suffix: None,
            pattern: None,
            methods: Vec::new(),
            headers: Vec::new(),
            scheme: None,
            ignore_case: false,
        }
    }

    /// Whether nothing is asked beyond the path.
    pub fn is_path_only(&self) -> bool {
        self.suffix.is_none()
            && self.pattern.is_none()
            && self.methods.is_empty()
            && self.headers.is_empty()
            && self.scheme.is_none()
    }

    /// The segments of the path.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.path.split('/').filter(|segment| !segment.is_empty())
    }

    /// The node of the tree of paths that it is at: its segments, as they compare.
    pub fn node(&self) -> impl Iterator<Item = String> {
        let fold =
            |segment: &str| if self.ignore_case { segment.to_ascii_lowercase() } else { segment.to_owned() };
        self.segments().map(fold)
    }

    /// What may follow in the path after its node.
    pub fn ends(&self) -> Ends {
        let slash = self.path.len() > 1 && self.path.ends_with('/');
        match (self.exact, slash) {
            (true, false) => Ends::Here,
            (true, true) => Ends::WithSlash,
            (false, true) => Ends::Below,
            (false, false) => Ends::HereOrBelow,
        }
    }
}

/// What a route says may follow in the path after its node, in the order in which routes of one node are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ends {
    /// Nothing.
    Here,
    /// A slash.
    WithSlash,
    /// A slash, and anything.
    Below,
    /// Nothing, or a slash and anything.
    HereOrBelow,
}

/// What follows in a path after a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rest {
    /// Nothing.
    Nothing,
    /// A slash.
    Slash,
    /// More than that.
    More,
}

impl Ends {
    /// Whether a request fits of whose path this is left.
    // Inlined into the edge, which asks with each request.
    #[inline]
    pub fn fits(self, rest: Rest) -> bool {
        match self {
            Self::Here => rest == Rest::Nothing,
            Self::WithSlash => rest == Rest::Slash,
            Self::Below => rest != Rest::Nothing,
            Self::HereOrBelow => true,
        }
    }
}

impl Rest {
    /// Of what stands in a path after a node.
    #[inline]
    pub fn of(after: &[u8]) -> Self {
        match after {
            [] => Self::Nothing,
            [_] => Self::Slash,
            _ => Self::More,
        }
    }
}

/// What is asked beyond the path, in a few words; nothing for nothing.
impl fmt::Display for When {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut gap = "";
        let mut say = |f: &mut fmt::Formatter<'_>, word: &dyn fmt::Display| {
            let written = write!(f, "{gap}{word}");
            gap = " ";
            written
        };
        if !self.methods.is_empty() {
            say(f, &self.methods.join(","))?;
        }
        if let Some(suffix) = &self.suffix {
            say(f, &format_args!("*{suffix}"))?;
        }
        if let Some(pattern) = &self.pattern {
            say(f, &format_args!("~ {pattern}"))?;
        }
        if let Some(scheme) = self.scheme {
            say(f, &if scheme == ClientScheme::Http { "http" } else { "https" })?;
        }
        for header in &self.headers {
            match &header.is {
                FieldIs::Present => say(f, &header.name)?,
                FieldIs::Absent => say(f, &format_args!("!{}", header.name))?,
                FieldIs::Equal(value) => say(f, &format_args!("{}={value}", header.name))?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Does {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forward { rewrite: None } => f.write_str("forward"),
            Self::Forward { rewrite: Some(with) } => write!(f, "forward as {with}"),
            Self::Redirect { to, status } => write!(f, "redirect {status} {to}"),
            Self::Reply(reply) => write!(f, "reply {}", reply.status),
        }
    }
}
