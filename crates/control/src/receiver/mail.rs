//! Tells people by e-mail: one letter for each message, over SMTP with TLS.
//!
//! A letter says that a program wrote it (RFC 3834), and its `Message-ID` follows from the message's key: who gets it twice sees it once.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lettre::address::Envelope;
use lettre::message::header::{ContentType, Header, HeaderName, HeaderValue};
use lettre::message::{Attachment, Mailbox, MessageBuilder, MultiPart, SinglePart};
use lettre::transport::smtp::authentication::Credentials;
use lettre::transport::smtp::client::{Certificate, CertificateStore, Tls, TlsParameters};
use lettre::{AsyncSmtpTransport, AsyncTransport as _, Message, Tokio1Executor};
use phalanx_record::escape::for_terminal;
use serde_json::Value;
use zeroize::Zeroizing;

use super::{NotTold, text, words};

/// A letter that is more than a text.
#[derive(Debug, Clone)]
pub struct Letter {
    /// Its subject.
    pub subject: String,
    /// What it says, for programs that show no HTML.
    pub text: String,
    /// What it says.
    pub html: String,
    /// What comes with it.
    pub enclosed: Vec<Enclosed>,
}

/// A file that comes with a letter.
#[derive(Debug, Clone)]
pub struct Enclosed {
    /// Its name.
    pub name: String,
    /// Its media type.
    pub kind: &'static str,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// Where letters are handed in.
#[derive(Clone)]
pub struct MailServer {
    /// The server's name.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the connection is secured.
    pub tls: MailTls,
    /// The user and the password, where the server wants them.
    pub login: Option<(String, Arc<Zeroizing<String>>)>,
    /// Certificates of authorities that vouch for the server, in PEM form; the system's where there are none.
    pub ca: Option<Arc<Vec<u8>>>,
}

/// How a connection to a mail server is secured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MailTls {
    /// From the first byte on, as on port 465.
    Wrapped,
    /// With `STARTTLS`, without which nothing is sent, as on port 587.
    StartTls,
    /// Not at all: for a server on the same machine.
    None,
}

/// People who are told.
#[derive(Clone)]
pub struct Mail {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    host: String,
    from: Mailbox,
    to: Vec<Mailbox>,
}

impl Mail {
    /// Letters from an address to others, by a server.
    ///
    /// # Errors
    /// When an address is none, or TLS cannot be set up.
    pub fn new(server: &MailServer, from: &str, to: &[String]) -> Result<Self, NotTold> {
        let address = |text: &str| {
            text.parse::<Mailbox>()
                .map_err(|_| NotTold::Address(format!("`{}` is no address of mail", text.escape_debug())))
        };
        let (from, to) = (address(from)?, to.iter().map(|one| address(one)).collect::<Result<Vec<_>, _>>()?);
        if to.is_empty() || to.len() > RECIPIENTS_MAX {
            return Err(NotTold::Address(format!("mail goes to 1 to {RECIPIENTS_MAX} addresses")));
        }
        let tls = || parameters(server).map(Box::new);
        let tls = match server.tls {
            MailTls::Wrapped => Tls::Wrapper(*tls()?),
            MailTls::StartTls => Tls::Required(*tls()?),
            MailTls::None => Tls::None,
        };
        let mut builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&server.host)
            .port(server.port)
            .timeout(Some(STEP_MAX))
            .tls(tls);
        if let Some((user, password)) = &server.login {
            builder = builder.credentials(Credentials::new(user.clone(), password.as_str().to_owned()));
        }
        Ok(Self { transport: builder.build(), host: server.host.clone(), from, to })
    }

    /// Sends a message as a letter, up to three times.
    ///
    /// # Errors
    /// When it was not taken.
    pub async fn tell(&self, key: &str, message: &Value, now_ms: impl Fn() -> u64) -> Result<(), NotTold> {
        let node = message["node"].as_str().unwrap_or_default();
        let (subject, body) = (subject(&text(message)), body(&words(message), node));
        let letter = self.letter(key, &subject, &body, now_ms())?;
        self.send(&letter).await
    }

    /// Sends a letter, up to three times.
    ///
    /// # Errors
    /// When it was not taken.
    pub(super) async fn send_letter(&self, key: &str, letter: &Letter, now_ms: u64) -> Result<(), NotTold> {
        self.send(&self.formed(key, letter, now_ms)?).await
    }

    fn formed(&self, key: &str, letter: &Letter, now_ms: u64) -> Result<Message, NotTold> {
        let unfit = |error: &dyn std::fmt::Display| NotTold::Address(error.to_string());
        let shown = MultiPart::alternative_plain_html(body(&letter.text, ""), letter.html.clone());
        let mut all = MultiPart::mixed().multipart(shown);
        for Enclosed { name, kind, bytes } in &letter.enclosed {
            let kind = ContentType::parse(kind).map_err(|error| unfit(&error))?;
            all = all.singlepart(Attachment::new(name.clone()).body(bytes.clone(), kind));
        }
        let head = self.head(key, &subject(letter.subject.as_str()), now_ms);
        head.multipart(all).map_err(|error| unfit(&error))
    }

    fn letter(&self, key: &str, subject: &str, text: &str, now_ms: u64) -> Result<Message, NotTold> {
        let plain = SinglePart::builder().header(ContentType::TEXT_PLAIN).body(text.to_owned());
        let head = self.head(key, subject, now_ms);
        head.singlepart(plain).map_err(|error| NotTold::Address(error.to_string()))
    }

    fn head(&self, key: &str, subject: &str, now_ms: u64) -> MessageBuilder {
        let hash = phalanx_trust::sha256(key.as_bytes());
        let id: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let date = std::time::UNIX_EPOCH + Duration::from_millis(now_ms);
        let mut letter = Message::builder()
            .from(self.from.clone())
            .subject(subject)
            .date(date)
            .message_id(Some(format!("<{id}@{}>", self.from.email.domain())))
            .header(AutoSubmitted);
        for to in &self.to {
            letter = letter.to(to.clone());
        }
        letter
    }

    /// To each by himself: who is not there any more silences nobody else. It is told if one of them got it.
    async fn send(&self, letter: &Message) -> Result<(), NotTold> {
        let bytes = letter.formatted();
        let mut told = Err(NotTold::Refused("nobody is named".into()));
        for to in &self.to {
            let envelope = Envelope::new(Some(self.from.email.clone()), vec![to.email.clone()])
                .map_err(|error| NotTold::Address(error.to_string()))?;
            match self.send_to(&envelope, &bytes).await {
                Err(NotTold::Refused(why)) if told.is_ok() => {
                    tracing::warn!(%why, "a letter was not taken for one of its addresses");
                }
                Err(why) if told.is_err() => told = Err(why),
                sent => told = sent,
            }
        }
        told
    }

    async fn send_to(&self, envelope: &Envelope, letter: &[u8]) -> Result<(), NotTold> {
        let mut pauses = PAUSES.iter();
        loop {
            let sent = tokio::time::timeout(LETTER_MAX, self.transport.send_raw(envelope, letter)).await;
            let sent = match sent {
                Err(_) => Err(NotTold::Unreachable(format!("no answer within {} s", LETTER_MAX.as_secs()))),
                Ok(Ok(_)) => return Ok(()),
                Ok(Err(error)) if error.is_permanent() => Err(NotTold::Refused(error.to_string())),
                Ok(Err(error)) => Err(NotTold::Unreachable(error.to_string())),
            };
            match (sent, pauses.next()) {
                (Err(NotTold::Unreachable(_)), Some(pause)) => tokio::time::sleep(*pause).await,
                (sent, _) => return sent,
            }
        }
    }
}

impl std::fmt::Debug for Mail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mail").field("host", &self.host).field("to", &self.to.len()).finish_non_exhaustive()
    }
}

/// Our own TLS, never another: certificates are looked at, and names compared.
fn parameters(server: &MailServer) -> Result<TlsParameters, NotTold> {
    let fault =
        |error: lettre::transport::smtp::Error| NotTold::Address(format!("TLS cannot be set up: {error}"));
    let mut builder = TlsParameters::builder(server.host.clone());
    if let Some(ca) = &server.ca {
        builder = builder
            .certificate_store(CertificateStore::None)
            .add_root_certificate(Certificate::from_pem(ca).map_err(fault)?);
    }
    builder.build_rustls().map_err(fault)
}

/// Reads a file of certificates for [`MailServer::ca`].
///
/// # Errors
/// When it cannot be read, or is far too large.
pub fn read_ca(path: &Path) -> Result<Arc<Vec<u8>>, String> {
    let told = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let size = std::fs::metadata(path).map_err(|error| told(&error))?.len();
    if size > CA_BYTES_MAX {
        return Err(told(&format!("more than {CA_BYTES_MAX} bytes")));
    }
    std::fs::read(path).map(Arc::new).map_err(|error| told(&error))
}

/// The first line, without what would break a line of a head.
fn subject(text: &str) -> String {
    let first = text.lines().next().unwrap_or_default();
    let more = text.lines().count().saturating_sub(1);
    let clean: String = for_terminal(first).chars().take(SUBJECT_CHARS_MAX).collect();
    match more {
        0 => format!("[Phalanx] {clean}"),
        more => format!("[Phalanx] {clean} (and {more} more)"),
    }
}

fn body(text: &str, node: &str) -> String {
    let text = text.lines().map(for_terminal).collect::<Vec<_>>().join("\n");
    let text: String = text.chars().take(BODY_CHARS_MAX).collect();
    match node {
        "" => text,
        node => format!("{text}\n\n-- \nPhalanx, node {node}. `phalanx incidents` shows all of them.\n"),
    }
}

#[derive(Clone)]
struct AutoSubmitted;

impl Header for AutoSubmitted {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("Auto-Submitted")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "auto-generated".to_owned())
    }
}

const RECIPIENTS_MAX: usize = 32;
/// For each step of SMTP, and for all of a letter.
const STEP_MAX: Duration = Duration::from_secs(10);
const LETTER_MAX: Duration = Duration::from_secs(60);
const PAUSES: [Duration; 2] = [Duration::from_secs(5), Duration::from_secs(30)];
const SUBJECT_CHARS_MAX: usize = 120;
const BODY_CHARS_MAX: usize = 64 * 1024;
const CA_BYTES_MAX: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn mail() -> Mail {
        let server =
            MailServer { host: "localhost".into(), port: 25, tls: MailTls::None, login: None, ca: None };
        Mail::new(&server, "Phalanx <phalanx@example.org>", &["ann@example.org".into()]).unwrap()
    }

    #[test]
    fn what_strangers_wrote_adds_no_line_to_the_head() {
        let text = "A opened (high): x\u{202e}\r\nBcc: eve@example.net\u{200b}\nB closed";
        let letter = mail().letter("k", &subject(text), &body(text, "fra/a"), 1_767_571_200_000).unwrap();
        let letter = String::from_utf8(letter.formatted()).unwrap();
        assert!(letter.contains("x\\u{202e}") && !letter.contains("=E2=80"), "{letter}");
        let (head, _) = letter.split_once("\r\n\r\n").unwrap();
        assert!(!head.to_lowercase().lines().any(|line| line.starts_with("bcc")), "{head}");
        assert!(
            head.contains("Auto-Submitted: auto-generated") && head.contains("Date: Mon, 05 Jan 2026"),
            "{head}"
        );
        let again = mail().letter("k", "s", "t", 0).unwrap().formatted();
        let id = |letter: &str| letter.lines().find(|line| line.starts_with("Message-ID")).map(str::to_owned);
        assert_eq!(id(&letter), id(&String::from_utf8(again).unwrap()), "the same key has the same id");
    }

    #[test]
    fn a_letter_has_its_text_its_page_and_what_is_enclosed() {
        let letter = Letter {
            subject: "Report daily: all apps\r\nBcc: eve@example.net".into(),
            text: "12 requests".into(),
            html: "<!doctype html><p>12 requests</p>".into(),
            enclosed: vec![Enclosed { name: "a.csv".into(), kind: "text/csv", bytes: b"a,b\r\n".to_vec() }],
        };
        let formed = mail().formed("report/daily/1", &letter, 0).unwrap().formatted();
        let formed = String::from_utf8(formed).unwrap();
        let (head, parts) = formed.split_once("\r\n\r\n").unwrap();
        assert!(!head.to_lowercase().lines().any(|line| line.starts_with("bcc")), "{head}");
        for part in ["multipart/alternative", "text/plain", "text/html", "12 requests", "filename=\"a.csv\""]
        {
            assert!(parts.contains(part), "{part} in {parts}");
        }
    }

    #[test]
    fn addresses_that_are_none_are_refused() {
        let server =
            MailServer { host: "localhost".into(), port: 25, tls: MailTls::StartTls, login: None, ca: None };
        for (from, to) in
            [("nobody", "ann@example.org"), ("a@example.org", "x\r\ny@example.org"), ("a@example.org", "")]
        {
            assert!(
                matches!(Mail::new(&server, from, &[to.into()]), Err(NotTold::Address(_))),
                "{from} {to}"
            );
        }
        assert!(matches!(Mail::new(&server, "a@example.org", &[]), Err(NotTold::Address(_))));
    }
}
