//! Compression of responses.

use serde::{Deserialize, Serialize};

/// A content coding that responses can be compressed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ContentCoding {
    /// Zstandard (RFC 8878).
    Zstd,
    /// Brotli (RFC 7932).
    Br,
    /// gzip (RFC 1952).
    Gzip,
}

impl ContentCoding {
    /// All of them, the one that makes the most of a CPU first.
    pub const ALL: [Self; 3] = [Self::Zstd, Self::Br, Self::Gzip];

    /// Its name in `Accept-Encoding` and `Content-Encoding`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Br => "br",
            Self::Gzip => "gzip",
        }
    }
}

/// Which responses of an app are compressed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Compression {
    /// With what: of those that a client likes equally well, the first.
    pub codings: Vec<ContentCoding>,
    /// Media types in lower case, without parameters; `text/*` stands for all of a kind.
    pub types: Vec<String>,
    /// Shorter responses go as they are, in bytes. It counts where the length is known.
    pub bytes_least: u64,
}

impl Default for Compression {
    fn default() -> Self {
        Self {
            codings: ContentCoding::ALL.to_vec(),
            types: TYPES.map(str::to_owned).to_vec(),
            bytes_least: BYTES_LEAST,
        }
    }
}

/// What is text, and is not compressed already.
const TYPES: [&str; 15] = [
    "text/*",
    "application/javascript",
    "application/json",
    "application/ld+json",
    "application/manifest+json",
    "application/graphql-response+json",
    "application/problem+json",
    "application/xml",
    "application/rss+xml",
    "application/atom+xml",
    "application/xhtml+xml",
    "application/wasm",
    "image/svg+xml",
    "image/bmp",
    "font/ttf",
];
/// A response that fits into one packet gains nothing.
const BYTES_LEAST: u64 = 1_024;
