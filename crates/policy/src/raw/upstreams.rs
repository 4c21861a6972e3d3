//! Upstreams as written: one URL, a list of URLs, or a table for each.

use std::fmt;

use schemars::JsonSchema;
use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, SeqAccess, Visitor};

use super::origin_tls::RawOriginTls;
use crate::balance::WhenAllDown;
use crate::origin_tls::Protocol;
use crate::toml_text::At;

/// Where an app's requests go: one URL, or a list of URLs or tables.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(untagged)]
pub enum RawUpstreams {
    /// One server.
    One(String),
    /// Several servers.
    Several(Vec<At<RawUpstream>>),
}

/// One of several servers.
#[derive(Debug, Clone, JsonSchema)]
#[schemars(untagged)]
pub enum RawUpstream {
    /// Its URL.
    Url(String),
    /// Its URL and more.
    Server(Box<RawServer>),
}

/// One server, with what is to be different from the others.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawServer {
    /// Where it is, as in "http://10.0.0.1:3000" or "unix:/run/app.sock".
    pub url: Option<At<String>>,
    /// Its share of the requests, in relation to the others' weights. 1 if not given.
    pub weight: Option<At<u16>>,
    /// It gets requests only when no other server works. `false` if not given.
    pub backup: Option<bool>,
    /// Requests in flight that it gets from this node at most. No limit if not given.
    pub max_requests: Option<At<u32>>,
    /// The version of HTTP that it is spoken to in: "http1", "http2" or "auto". The app's `upstream_protocol` if not given.
    pub protocol: Option<At<Protocol>>,
    /// TLS with it. The app's `upstream_tls` if not given.
    pub tls: Option<At<RawOriginTls>>,
}

/// How it is found out which upstreams work, and what is done about those that do not.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawHealth {
    /// Failures in a row that eject a server; 0 never does. 5 if not given.
    pub failures: Option<At<u32>>,
    /// How long the first ejection lasts, as in "10s"; each further one lasts longer by as much.
    pub eject: Option<At<String>>,
    /// The longest ejection, as in "5m".
    pub max_eject: Option<At<String>>,
    /// The part of the servers that may be ejected at once, as in "50%".
    pub max_ejected: Option<At<String>>,
    /// The part of a server's requests that must fail to eject it, as in "50%". Nobody is ejected for it if not given.
    pub error_rate: Option<At<String>>,
    /// How long a server that is back gets less than its share, as in "10s".
    pub slow_start: Option<At<String>>,
    /// A path that each server is asked for from time to time, as in "/healthz". None if not given.
    pub path: Option<At<String>>,
    /// What `Host` says in these checks. The server's own host if not given.
    pub host: Option<At<String>>,
    /// How often it is asked, as in "5s".
    pub interval: Option<At<String>>,
    /// How long the answer may take, as in "2s".
    pub timeout: Option<At<String>>,
    /// The status of a server that works, as in "200" or "200-399".
    pub status: Option<At<String>>,
    /// Failed checks in a row after which a server counts as down. 3 if not given.
    pub down_after: Option<At<u32>>,
    /// Passed checks in a row after which it counts as up again. 2 if not given.
    pub up_after: Option<At<u32>>,
    /// "try": send requests to all servers when none works; "refuse": answer them with 503. "try" if not given.
    pub when_all_down: Option<WhenAllDown>,
}

/// When a request that failed is sent once more, to another upstream.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawRetries {
    /// How often one request may be sent again; 0 never. 2 if not given.
    pub attempts: Option<At<u8>>,
    /// The part of the app's requests that retries may add, as in "20%".
    pub budget: Option<At<String>>,
    /// Retries per second that are always there. 3 if not given.
    pub budget_least: Option<At<u32>>,
    /// What else is a reason than a connection that fails: "timeout", and statuses of 500 to 599 as in "503". None if not given.
    #[serde(default)]
    pub on: Vec<At<String>>,
}

/// Where requests wait when all upstreams have as many as they may get.
#[derive(Debug, Clone, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RawQueue {
    /// Requests that wait; more are answered with 503. 0 lets none wait. 256 if not given.
    pub requests: Option<At<usize>>,
    /// How long one waits, as in "1s".
    pub wait: Option<At<String>>,
}

// By hand, and not `untagged`: that would lose where in the file each entry stands.
impl<'de> Deserialize<'de> for RawUpstreams {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Several;

        impl<'de> Visitor<'de> for Several {
            type Value = RawUpstreams;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a URL in quotes, or a list of them")
            }

            fn visit_str<E>(self, url: &str) -> Result<RawUpstreams, E> {
                Ok(RawUpstreams::One(url.to_owned()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<RawUpstreams, A::Error> {
                let mut servers = Vec::new();
                while let Some(server) = entries.next_element()? {
                    servers.push(server);
                }
                Ok(RawUpstreams::Several(servers))
            }
        }

        deserializer.deserialize_any(Several)
    }
}

impl<'de> Deserialize<'de> for RawUpstream {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct One;

        impl<'de> Visitor<'de> for One {
            type Value = RawUpstream;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a URL in quotes, or a table with `url`")
            }

            fn visit_str<E>(self, url: &str) -> Result<RawUpstream, E> {
                Ok(RawUpstream::Url(url.to_owned()))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawUpstream, A::Error> {
                RawServer::deserialize(MapAccessDeserializer::new(map)).map(Box::new).map(RawUpstream::Server)
            }
        }

        deserializer.deserialize_any(One)
    }
}
