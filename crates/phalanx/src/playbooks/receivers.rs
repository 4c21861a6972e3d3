//! `[webhooks.NAME]` and `[mail.NAME]` of `phalanx.toml`: who can be told.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use phalanx_control::receiver::{Form, Mail, MailServer, MailTls, NotTold, Receiver, Webhook, mail};
use phalanx_policy::Diagnostic;
use phalanx_policy::toml_text::{At, Text};
use phalanx_trust::private_file;
use schemars::JsonSchema;
use serde::Deserialize;
use zeroize::Zeroizing;

/// A receiver of webhooks.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawWebhook {
    /// Where it is, `https://`. PagerDuty's own if not given with `form = "pagerduty"`.
    url: Option<At<String>>,
    /// A file with that, mode 0600, where the address is a secret itself.
    url_file: Option<At<PathBuf>>,
    /// How it wants to be told: "signed", "slack", "teams" or "pagerduty". "signed" if not given.
    form: Option<At<FormWord>>,
    /// A file with the secret that messages are signed with, or with PagerDuty's routing key; mode 0600.
    secret_file: Option<At<PathBuf>>,
    /// It may be at a private address. `false` if not given.
    #[serde(default)]
    allow_private: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum FormWord {
    Signed,
    Slack,
    Teams,
    PagerDuty,
}

/// People who are told by mail.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawMail {
    /// The server that takes letters, as in "smtp.example.org:587".
    server: At<String>,
    /// "starttls", "tls" (from the first byte on), or "none" for a server on this machine. "tls" on port 465, else "starttls", if not given.
    tls: Option<At<TlsWord>>,
    /// The name to log in with, where the server wants one.
    user: Option<At<String>>,
    /// A file with the password, mode 0600.
    password_file: Option<At<PathBuf>>,
    /// A file with certificates of authorities that vouch for the server, PEM. The system's if not given.
    ca_file: Option<At<PathBuf>>,
    /// Whom letters are from, as in "Phalanx <phalanx@example.org>".
    from: At<String>,
    /// Whom they go to, 32 at most.
    to: At<Vec<At<String>>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum TlsWord {
    StartTls,
    Tls,
    None,
}

/// What is written of them.
pub(super) type Raw<'a> = (&'a BTreeMap<String, At<RawWebhook>>, &'a BTreeMap<String, At<RawMail>>);

/// Everybody who can be told, by name, and the files that say so.
pub(super) fn read(
    text: &Text<'_>,
    (webhooks, mails): Raw<'_>,
    folder: &Path,
    faults: &mut Vec<Diagnostic>,
) -> (BTreeMap<String, Receiver>, Vec<PathBuf>) {
    let mut reading = Reading::new(text, folder);
    let mut receivers = BTreeMap::new();
    let spans = webhooks.values().map(|raw| &raw.span).chain(mails.values().map(|raw| &raw.span));
    if let Some(one_more) = spans.clone().nth(RECEIVERS_MAX) {
        let message = format!("there are more than {RECEIVERS_MAX} webhooks and receivers of mail");
        faults.push(text.error_at(one_more, message));
    }
    for (name, span) in webhooks.keys().chain(mails.keys()).zip(spans) {
        let is_name = (1..=64).contains(&name.len())
            && name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'));
        if !is_name {
            let fault = text.error_at(span, format!("`{}` is no name of a receiver", name.escape_debug()));
            faults.push(fault.with_help("a name is 1 to 64 of a-z, 0-9 and -"));
        }
    }
    for (name, raw) in webhooks.iter().take(RECEIVERS_MAX) {
        match reading.webhook(raw) {
            Ok(webhook) => _ = receivers.insert(name.clone(), Receiver::Webhook(webhook)),
            Err(fault) => faults.push(fault),
        }
    }
    for (name, raw) in mails.iter().take(RECEIVERS_MAX) {
        if webhooks.contains_key(name) {
            let fault = text.error_at(&raw.span, format!("`{name}` is a webhook already"));
            faults.push(fault.with_help("receivers have one name each"));
            continue;
        }
        match reading.mail(raw) {
            Ok(mail) => _ = receivers.insert(name.clone(), Receiver::Mail(mail)),
            Err(fault) => faults.push(fault),
        }
    }
    (receivers, reading.files)
}

/// Reads the files that settings name, and notes which.
pub(crate) struct Reading<'a> {
    text: &'a Text<'a>,
    folder: &'a Path,
    pub(crate) files: Vec<PathBuf>,
}

impl<'a> Reading<'a> {
    pub(crate) fn new(text: &'a Text<'a>, folder: &'a Path) -> Self {
        Self { text, folder, files: Vec::new() }
    }
}

impl Reading<'_> {
    fn webhook(&mut self, raw: &At<RawWebhook>) -> Result<Webhook, Diagnostic> {
        let form = raw.form.as_ref().map_or(FormWord::Signed, |form| form.value);
        let (url, span) = self.url(raw, form)?;
        let built = match (form, &raw.secret_file) {
            (FormWord::Slack | FormWord::Teams, Some(file)) => {
                let fault = self.text.error_at(&file.span, "this form is not signed");
                return Err(fault.with_help("take out `secret_file`: the address is the secret"));
            }
            (FormWord::Slack, None) => Webhook::shaped(&url, Form::Slack, raw.allow_private),
            (FormWord::Teams, None) => Webhook::shaped(&url, Form::Teams, raw.allow_private),
            (_, None) => {
                let fault = self.text.error_at(&raw.span, "the webhook has no `secret_file`");
                return Err(fault.with_help(match form {
                    FormWord::PagerDuty => "name the file that holds the integration's routing key",
                    _ => SECRET_HELP,
                }));
            }
            (FormWord::Signed, Some(file)) => {
                let secret = self.secret(file, SECRET_HELP)?;
                if secret.len() < SECRET_BYTES_MIN {
                    let message = format!("the secret has fewer than {SECRET_BYTES_MIN} bytes");
                    return Err(self.text.error_at(&file.span, message).with_help(SECRET_HELP));
                }
                Webhook::new(&url, &secret, raw.allow_private)
            }
            (FormWord::PagerDuty, Some(file)) => {
                let key = self.words(file, "write the integration's routing key into it")?;
                Webhook::shaped(&url, Form::PagerDuty(key), raw.allow_private)
            }
        };
        built.map_err(|fault| {
            let fault = self.text.error_at(&span, fault.to_string());
            match url.starts_with("http://") {
                true => fault.with_help(
                    "a receiver in a network of your own may be told without TLS: write `allow_private = true`",
                ),
                false => fault,
            }
        })
    }

    /// The address, and where it is said. Those of chats are secrets, and may stand in a file.
    fn url(
        &mut self,
        raw: &At<RawWebhook>,
        form: FormWord,
    ) -> Result<(Zeroizing<String>, std::ops::Range<usize>), Diagnostic> {
        match (&raw.url, &raw.url_file) {
            (Some(url), None) => Ok((Zeroizing::new(url.value.clone()), url.span.clone())),
            (None, Some(file)) => {
                let url = self.words(file, "write the address into it")?;
                Ok((Zeroizing::new(url.as_str().to_owned()), file.span.clone()))
            }
            (Some(_), Some(file)) => Err(self
                .text
                .error_at(&file.span, "the webhook has both `url` and `url_file`")
                .with_help("keep `url_file` where the address is a secret")),
            (None, None) if form == FormWord::PagerDuty => {
                Ok((Zeroizing::new(PAGER_DUTY.to_owned()), raw.span.clone()))
            }
            (None, None) => {
                let fault = self.text.error_at(&raw.span, "the webhook has no `url`");
                Err(fault.with_help("add `url`, or `url_file` where the address is a secret, as with chats"))
            }
        }
    }

    fn mail(&mut self, raw: &At<RawMail>) -> Result<Mail, Diagnostic> {
        let text = self.text;
        let fault = |at: &std::ops::Range<usize>, what: String| text.error_at(at, what);
        let no_server = || {
            let what = format!("`{}` is no server with a port", raw.server.value.escape_debug());
            fault(&raw.server.span, what).with_help("write it as in \"smtp.example.org:587\"")
        };
        let (host, port) = raw.server.rsplit_once(':').ok_or_else(no_server)?;
        let port: u16 = port.parse().ok().filter(|port| *port > 0).ok_or_else(no_server)?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        if host.is_empty() {
            return Err(no_server());
        }
        let tls = match raw.tls.as_ref().map(|tls| (tls.value, &tls.span)) {
            None if port == 465 => MailTls::Wrapped,
            None | Some((TlsWord::StartTls, _)) => MailTls::StartTls,
            Some((TlsWord::Tls, _)) => MailTls::Wrapped,
            Some((TlsWord::None, _)) if is_here(&host) => MailTls::None,
            Some((TlsWord::None, span)) => {
                let fault = fault(span, format!("what goes to {host} could be read on its way"));
                return Err(fault.with_help("`tls = \"none\"` is for a server on this machine: localhost"));
            }
        };
        let login = match (&raw.user, &raw.password_file) {
            (None, None) => None,
            (Some(user), Some(file)) => {
                Some((user.value.clone(), self.words(file, "write the password into it")?))
            }
            (Some(one), None) => {
                let fault = fault(&one.span, "there is a user and no password".into());
                return Err(fault.with_help("add `password_file`"));
            }
            (None, Some(one)) => {
                let fault = fault(&one.span, "there is a password and no user".into());
                return Err(fault.with_help("add `user`"));
            }
        };
        let ca = match &raw.ca_file {
            None => None,
            Some(file) => {
                let path = self.file(file);
                Some(mail::read_ca(&path).map_err(|why| fault(&file.span, why))?)
            }
        };
        let server = MailServer { host, port, tls, login, ca };
        let to: Vec<String> = raw.to.value.iter().map(|to| to.value.clone()).collect();
        Mail::new(&server, &raw.from, &to).map_err(|told: NotTold| fault(&raw.from.span, told.to_string()))
    }

    /// Where a file is.
    pub(crate) fn file(&mut self, file: &At<PathBuf>) -> PathBuf {
        let path = self.folder.join(&file.value);
        self.files.push(path.clone());
        path
    }

    /// A secret that is text, on one line.
    pub(crate) fn words(
        &mut self,
        file: &At<PathBuf>,
        help: &str,
    ) -> Result<Arc<Zeroizing<String>>, Diagnostic> {
        let bytes = self.secret(file, help)?;
        match std::str::from_utf8(&bytes) {
            Ok(words) if !words.is_empty() && !words.chars().any(char::is_control) => {
                Ok(Arc::new(Zeroizing::new(words.to_owned())))
            }
            _ => {
                let path = self.folder.join(&file.value);
                let message = format!("{} holds not one line of text", path.display());
                Err(self.text.error_at(&file.span, message).with_help(help))
            }
        }
    }

    /// What a file holds that nobody else may read, without white space at its end.
    fn secret(&mut self, file: &At<PathBuf>, help: &str) -> Result<Zeroizing<Vec<u8>>, Diagnostic> {
        let path = self.file(file);
        let read = private_file::read(&path, SECRET_BYTES_MAX);
        let secret = match read {
            Ok(Some(secret)) => secret,
            Ok(None) => {
                let message = format!("{} does not exist", path.display());
                return Err(self.text.error_at(&file.span, message).with_help(help));
            }
            Err(error) => return Err(self.text.error_at(&file.span, error.to_string())),
        };
        let end = secret.iter().rposition(|byte| !byte.is_ascii_whitespace()).map_or(0, |end| end + 1);
        Ok(Zeroizing::new(secret.get(..end).unwrap_or_default().to_vec()))
    }
}

fn is_here(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

const SECRET_HELP: &str = "write 16 random bytes or more into it: `umask 077; openssl rand -hex 32 > FILE`";
const PAGER_DUTY: &str = "https://events.pagerduty.com/v2/enqueue";
/// Receivers of each kind; each playbook names a few.
const RECEIVERS_MAX: usize = 64;
const SECRET_BYTES_MIN: usize = 16;
const SECRET_BYTES_MAX: usize = 1_024;
