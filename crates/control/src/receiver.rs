//! Who is told of what happens: programs by webhook, chats and pagers in their own form, people by e-mail.
//!
//! Flow in names: a message (JSON with `kind`, `key` and `text`) -> [`Receiver`] -> its [`Form`], or a letter -> the network.
//!
//! INVARIANT: no secret, and no address that is one, stands in an error, a log or `Debug`. The same message has the same key at each attempt.

pub mod form;
pub mod mail;
pub mod public_address;
pub mod webhook;

pub use form::Form;
pub use mail::{Mail, MailServer, MailTls};
pub use webhook::Webhook;

use mail::Letter;
use phalanx_record::escape::for_terminal;
use serde_json::Value;

/// One who is told.
#[derive(Debug, Clone)]
pub enum Receiver {
    /// A program, by HTTP.
    Webhook(Webhook),
    /// People, by e-mail.
    Mail(Mail),
}

/// Why a receiver could not be told. Never holds a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotTold {
    /// The address or another setting cannot be used: the operator's fault.
    #[error("{0}")]
    Address(String),
    /// The name leads into a network that is not public.
    #[error("`{0}` leads to {1}, which is not public; allow it with `allow_private = true` if it is meant")]
    Private(String, std::net::IpAddr),
    /// It cannot be reached, or broke off: worth another attempt.
    #[error("{0}")]
    Unreachable(String),
    /// It answered that it does not want this: the same again will be answered alike.
    #[error("it answers with {0}")]
    Refused(String),
}

/// A message for people: its text alone. Strangers wrote parts of it: what hides, reorders or moves what is shown is made visible.
fn text(message: &Value) -> String {
    let text = message["text"].as_str().unwrap_or("Phalanx has something to tell");
    text.lines().map(for_terminal).collect::<Vec<_>>().join("\n")
}

/// The same, and how to go on where it is about one incident.
fn words(message: &Value) -> String {
    let on = ["show", "url"].iter().filter_map(|name| message[name].as_str());
    let text = text(message);
    std::iter::once(text.as_str()).chain(on).collect::<Vec<_>>().join("\n")
}

impl Receiver {
    /// What it is, in one word.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Webhook(webhook) => webhook.form().name(),
            Self::Mail(_) => "mail",
        }
    }

    /// Tells it, up to four times in half a minute. `now_ms` is asked for each attempt: receivers refuse old signatures.
    ///
    /// # Errors
    /// When it was not told, or does not want it.
    pub async fn tell(&self, key: &str, message: &Value, now_ms: impl Fn() -> u64) -> Result<(), NotTold> {
        match self {
            Self::Webhook(webhook) => webhook.tell(key, message, now_ms).await,
            Self::Mail(mail) => mail.tell(key, message, now_ms).await,
        }
    }

    /// The same of what is a letter to people and a message to programs.
    ///
    /// # Errors
    /// When it was not told, or does not want it.
    pub async fn send(
        &self,
        key: &str,
        message: &Value,
        letter: &Letter,
        now_ms: impl Fn() -> u64,
    ) -> Result<(), NotTold> {
        match self {
            Self::Webhook(webhook) => webhook.tell(key, message, now_ms).await,
            Self::Mail(mail) => mail.send_letter(key, letter, now_ms()).await,
        }
    }
}
