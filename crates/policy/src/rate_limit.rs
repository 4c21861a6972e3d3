//! Rate limits as checked policy: who is counted, how often they may ask, and what is done beyond that.

use phalanx_model::limits::{RATE_BURST_LEAST, RATE_PER_MS_MAX, RATE_PERIOD_MAX_MS};
use serde::Serialize;

/// How often one key may ask for something of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RateLimit {
    /// Its name in events, reports and metrics; unique in its app.
    pub name: String,
    /// What is counted apart, in the order written; empty for one count of all requests.
    pub key: Vec<RateKey>,
    /// Paths that it is about, as patterns; empty for all.
    pub paths: Vec<String>,
    /// Methods that it is about; empty for all.
    pub methods: Vec<String>,
    /// The rate that is admitted for long.
    pub rate: Rate,
    /// How many requests may come at once, 1 to the rate's count.
    pub burst: u32,
    /// Whether the nodes of a fleet count together.
    pub scope: RateScope,
    /// What one node may admit of a fleet's limit by itself, in per cent; `None` for its even part.
    pub share_percent: Option<u8>,
    /// What is done with a request beyond the limit.
    pub action: RateAction,
    /// Whether clients are told what is left, in `RateLimit` header fields.
    pub headers: bool,
}

/// A part of what a limit counts apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RateKey {
    /// The client's address; for IPv6 its /64.
    Ip,
    /// The value of a header field, by its name in lower case.
    Header(String),
    /// The value of a cookie.
    Cookie(String),
    /// The method.
    Method,
    /// Which of the limit's paths matched.
    Path,
}

/// Requests in a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: u32,
    /// In how long, in milliseconds.
    pub period_ms: u64,
}

/// Who counts together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RateScope {
    /// Each node for itself.
    #[default]
    Node,
    /// All nodes of the fleet.
    Fleet,
}

/// What is done with a request beyond a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RateAction {
    /// Refuse it with 429 and say when to come back.
    #[default]
    Deny,
    /// Pass it on and record that it would have been refused.
    Observe,
}

impl Rate {
    /// Reads `100/10s`, `5/s`, `1000/h`.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let form = || format!("`{text}`: a rate is a number and a time, as in `5/s`, `100/10s` or `1000/h`");
        let (count, period) = text.split_once('/').ok_or_else(form)?;
        let count: u32 = count.trim().parse().map_err(|_| form())?;
        let period = period.trim();
        let period_ms = match period.starts_with(|c: char| c.is_ascii_digit()) {
            true => crate::units::duration_ms(period),
            false => crate::units::duration_ms(&format!("1{period}")),
        }
        .map_err(|_| form())?;
        match (count, period_ms) {
            (0, _) => Err(format!("`{text}` admits nothing; refuse such requests with a rule instead")),
            (_, 0) => Err(form()),
            (_, RATE_PERIOD_MAX_MS..) if period_ms > RATE_PERIOD_MAX_MS => {
                Err(format!("`{text}`: the time is a day at most"))
            }
            _ if u64::from(count) > period_ms.saturating_mul(RATE_PER_MS_MAX) => {
                Err(format!("`{text}` is more than a million in a second"))
            }
            _ => Ok(Self { count, period_ms }),
        }
    }

    /// The burst that is admitted where policy names none: a tenth of the count, but five where there are as many, so that a
    /// person who tries a few times is not refused.
    pub fn default_burst(self) -> u32 {
        self.count.div_ceil(10).max(RATE_BURST_LEAST.min(self.count))
    }
}

impl RateKey {
    /// Reads one part of a key.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let known = || {
            format!(
                "`{text}`: a key is `ip`, `header:NAME`, `cookie:NAME`, `method`, `path`, or a list of them"
            )
        };
        match text.split_once(':') {
            Some(("header", name)) if is_token(name) => Ok(Self::Header(name.to_ascii_lowercase())),
            Some(("cookie", name)) if is_token(name) => Ok(Self::Cookie(name.to_owned())),
            Some(("header" | "cookie", name)) => Err(format!("`{name}` is no name of a header or cookie")),
            None if text == "ip" => Ok(Self::Ip),
            None if text == "method" => Ok(Self::Method),
            None if text == "path" => Ok(Self::Path),
            _ => Err(known()),
        }
    }
}

impl std::fmt::Display for Rate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (unit, name) = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s"), (1, "ms")]
            .into_iter()
            .find(|(unit, _)| self.period_ms.is_multiple_of(*unit))
            .unwrap_or((1, "ms"));
        match self.period_ms / unit {
            1 => write!(f, "{}/{name}", self.count),
            periods => write!(f, "{}/{periods}{name}", self.count),
        }
    }
}

impl Serialize for Rate {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for RateKey {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl std::fmt::Display for RateKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ip => f.write_str("ip"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Method => f.write_str("method"),
            Self::Path => f.write_str("path"),
        }
    }
}

/// Whether the text is a token (RFC 9110 section 5.6.2), as methods and names of fields and cookies are.
pub(crate) fn is_token(text: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.len() <= 64 && text.bytes().all(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_and_written() {
        for (text, count, period_ms, written) in [
            ("100/10s", 100, 10_000, "100/10s"),
            ("5/s", 5, 1_000, "5/s"),
            (" 1000 / h", 1_000, 3_600_000, "1000/h"),
            ("30/1m", 30, 60_000, "30/min"),
            ("10/min", 10, 60_000, "10/min"),
            ("7/250ms", 7, 250, "7/250ms"),
        ] {
            let rate = Rate::parse(text).unwrap();
            assert_eq!((rate, rate.to_string().as_str()), (Rate { count, period_ms }, written), "{text}");
        }
        for text in ["", "5", "5/", "/s", "0/s", "5/0s", "-1/s", "5/week", "1/2d", "2000000/s", "5/10"] {
            assert!(Rate::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_burst_that_is_not_named_leaves_room_for_a_few_tries() {
        for (text, burst) in [("100/10s", 10), ("5/s", 5), ("1/s", 1), ("10/min", 5), ("1005/h", 101)] {
            assert_eq!(Rate::parse(text).unwrap().default_burst(), burst, "{text}");
        }
    }

    #[test]
    fn keys_are_read_and_written() {
        for text in ["ip", "header:x-api-key", "cookie:sid", "method", "path"] {
            assert_eq!(RateKey::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(RateKey::parse("header:X-Api-Key"), Ok(RateKey::Header("x-api-key".into())));
        for text in ["", "IP", "header", "header:", "cookie:a b", "account", "header:a:b"] {
            assert!(RateKey::parse(text).is_err(), "{text}");
        }
    }
}
