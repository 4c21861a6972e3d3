//! Talks to a running node: over its socket, or to its admin address with the token.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use clap::Args;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use phalanx_control::api::Problem;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use crate::progress::Progress;
use crate::up::quoted;

/// Which node to talk to, and how to print.
#[derive(Debug, Clone, Args)]
pub(crate) struct AdminArgs {
    /// State folder of the node, whose socket is used [default: the user's state folder]
    #[arg(long, value_name = "DIR")]
    pub(crate) state: Option<PathBuf>,
    /// Admin address of the node, instead of its socket, e.g. http://127.0.0.1:8900
    #[arg(long, value_name = "URL")]
    pub(crate) admin: Option<String>,
    /// File with the admin token, for --admin [default: admin.token in the state folder]
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// Machine-readable output
    #[arg(long)]
    pub(crate) json: bool,
}

impl AdminArgs {
    /// The flags that name the same node in another command, each with a space before it; for a shell.
    pub(crate) fn flags(&self) -> String {
        let state = self.state.as_deref().map(Path::to_string_lossy);
        let token_file = self.token_file.as_deref().map(Path::to_string_lossy);
        let given = [
            ("--state", state),
            ("--admin", self.admin.as_deref().map(Into::into)),
            ("--token-file", token_file),
        ];
        let given = given.into_iter().filter_map(|(flag, value)| Some((flag, value?)));
        given.map(|(flag, value)| format!(" {flag} {}", quoted(&value))).collect()
    }
}

/// A node to talk to.
#[derive(Debug)]
pub(crate) struct Client {
    target: Target,
}

#[derive(Debug)]
enum Target {
    Socket(PathBuf),
    Tcp { authority: String, token: String },
}

impl Client {
    /// Finds the node that the arguments name.
    pub(crate) fn new(args: &AdminArgs) -> anyhow::Result<Self> {
        let state = args.state.clone().unwrap_or_else(crate::settings::default_state);
        let target = match &args.admin {
            None => Target::Socket(state.join("admin.sock")),
            Some(url) => {
                let file = args.token_file.clone().unwrap_or_else(|| state.join("admin.token"));
                Target::Tcp { authority: authority(url)?, token: token(&file)? }
            }
        };
        Ok(Self { target })
    }

    /// GET of an API path, e.g. `status`.
    pub(crate) fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.call(Method::GET, path, None)
    }

    /// GET of a page of a list: what it says, and where the next one begins.
    pub(crate) fn get_page(&self, path: &str) -> anyhow::Result<(Value, Option<String>)> {
        let reply = self.whole_exchange(Method::GET, path, "application/json", Bytes::new(), ANSWER)?;
        Ok((parse(&reply.body)?, reply.next))
    }

    /// POST to an API path.
    pub(crate) fn post(&self, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        self.call(Method::POST, path, body)
    }

    /// PATCH of an API path.
    pub(crate) fn patch(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.call(Method::PATCH, path, Some(body))
    }

    /// GET of an API path that takes its time to answer.
    pub(crate) fn get_patiently(&self, path: &str) -> anyhow::Result<Value> {
        parse(&self.get_bytes(path)?)
    }

    /// POST to an API path that takes its time to answer.
    pub(crate) fn post_patiently(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let json = serde_json::to_vec(body)?;
        parse(&self.exchange(Method::POST, path, "application/json", json.into(), LONG_ANSWER)?)
    }

    /// PUT of a text to an API path.
    pub(crate) fn put_text(&self, path: &str, text: String) -> anyhow::Result<Value> {
        parse(&self.exchange(Method::PUT, path, "text/plain; charset=utf-8", text.into(), ANSWER)?)
    }

    /// DELETE of an API path.
    pub(crate) fn delete(&self, path: &str) -> anyhow::Result<Value> {
        self.call(Method::DELETE, path, None)
    }

    /// GET of bytes from an API path.
    pub(crate) fn get_bytes(&self, path: &str) -> anyhow::Result<Bytes> {
        self.exchange(Method::GET, path, "application/json", Bytes::new(), LONG_ANSWER)
    }

    /// POST of bytes to an API path.
    pub(crate) fn post_bytes(&self, path: &str, bytes: Bytes) -> anyhow::Result<Value> {
        parse(&self.exchange(Method::POST, path, "application/octet-stream", bytes, LONG_ANSWER)?)
    }

    fn call(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let json = body.map(serde_json::to_vec).transpose()?.unwrap_or_default();
        parse(&self.exchange(method, path, "application/json", json.into(), ANSWER)?)
    }

    fn exchange(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: Bytes,
        answer: AnswerLimits,
    ) -> anyhow::Result<Bytes> {
        self.whole_exchange(method, path, kind, body, answer).map(|reply| reply.body)
    }

    fn whole_exchange(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: Bytes,
        answer: AnswerLimits,
    ) -> anyhow::Result<Reply> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let request = self.request(method, path, kind, body)?;
        runtime.block_on(async {
            tokio::time::timeout(answer.time, shown(self.send(request, answer.bytes)))
                .await
                .map_err(|_| anyhow!("{} did not answer within {} s", self.name(), answer.time.as_secs()))?
        })
    }

    fn request(
        &self,
        method: Method,
        path: &str,
        kind: &str,
        body: Bytes,
    ) -> anyhow::Result<Request<Full<Bytes>>> {
        let mut request = Request::builder().method(method).uri(format!("/api/v1/{path}"));
        request = match &self.target {
            Target::Socket(_) => request.header(header::HOST, "localhost"),
            Target::Tcp { authority, token } => request
                .header(header::HOST, authority)
                .header(header::AUTHORIZATION, format!("Bearer {token}")),
        };
        if !body.is_empty() {
            request = request.header(header::CONTENT_TYPE, kind);
        }
        Ok(request.body(Full::new(body))?)
    }

    async fn send(&self, request: Request<Full<Bytes>>, bytes_max: usize) -> anyhow::Result<Reply> {
        match &self.target {
            Target::Socket(path) => {
                let stream = UnixStream::connect(path).await.map_err(|error| no_socket(path, &error))?;
                exchange(stream, request, bytes_max).await
            }
            Target::Tcp { authority, .. } => {
                let stream = TcpStream::connect(authority)
                    .await
                    .with_context(|| format!("no node answers on http://{authority}; is it running?"))?;
                exchange(stream, request, bytes_max).await
            }
        }
        .with_context(|| format!("asking {}", self.name()))
    }

    fn name(&self) -> String {
        match &self.target {
            Target::Socket(path) => format!("the node at {}", path.display()),
            Target::Tcp { authority, .. } => format!("the node at http://{authority}"),
        }
    }
}

/// Says on a terminal that a node is waited for, where that takes a while.
async fn shown<T>(work: impl Future<Output = T>) -> T {
    let progress = Progress::new("waiting for the node", None);
    let mut clock = tokio::time::interval(Duration::from_secs(1));
    // The first one is at once.
    clock.tick().await;
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = clock.tick() => progress.show(),
        }
    }
}

/// A good answer.
struct Reply {
    body: Bytes,
    /// Where the next page begins.
    next: Option<String>,
}

/// The `before` of a link to the next page.
fn next_page(headers: &http::HeaderMap) -> Option<String> {
    let link = headers.get(header::LINK)?.to_str().ok()?;
    let url = link.strip_prefix('<')?.strip_suffix(">; rel=\"next\"")?;
    let (_, before) = url.rsplit_once("before=")?;
    Some(before.split('&').next()?.to_owned())
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>, bytes_max: usize) -> anyhow::Result<Reply>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driver = tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let status = response.status();
    let next = next_page(response.headers());
    let body = Limited::new(response.into_body(), bytes_max)
        .collect()
        .await
        .map_err(|error| anyhow!("the answer broke off: {error}"))?
        .to_bytes();
    driver.abort();
    if status.is_success() {
        return Ok(Reply { body, next });
    }
    Err(refusal(status, &body))
}

fn parse(body: &Bytes) -> anyhow::Result<Value> {
    if body.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_slice(body).context("the answer is no JSON; is this a Phalanx node?")
}

/// A call that the node refused, with its reason.
#[derive(Debug)]
struct Refused {
    code: String,
    text: String,
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)
    }
}

impl std::error::Error for Refused {}

/// Whether a call failed because the node refused it with this code.
pub(crate) fn is_refused(error: &anyhow::Error, code: &str) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| refused.code == code)
}

/// What the node said to a call that it refused.
fn refusal(status: StatusCode, body: &[u8]) -> anyhow::Error {
    match Problem::read(status.as_u16(), body) {
        Some(problem) => {
            let mut text = problem.detail;
            for fault in problem.diagnostics {
                text.push_str(&format!(
                    "\n{}: {}:{}: {}",
                    fault.level, fault.file, fault.line, fault.message
                ));
                if let Some(help) = fault.help {
                    text.push_str(&format!("\n  help: {help}"));
                }
            }
            Refused { code: problem.code, text: lines_for_terminal(&text) }.into()
        }
        None => anyhow!("it answered {status}"),
    }
}

/// Escapes each line, and keeps the line breaks, which are ours.
fn lines_for_terminal(text: &str) -> String {
    text.lines().map(phalanx_record::escape::for_terminal).collect::<Vec<_>>().join("\n")
}

fn no_socket(path: &Path, error: &std::io::Error) -> anyhow::Error {
    let path = path.display();
    match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            anyhow!("{path} may not be opened: run this as the user that runs the node")
        }
        _ => anyhow!(
            "no node answers on {path} ({error}); start one with `phalanx up`, or name its state folder with --state \
             or its address with --admin"
        ),
    }
}

/// The host and port of an admin URL.
fn authority(url: &str) -> anyhow::Result<String> {
    if url.starts_with("https://") {
        bail!("--admin {url}: the admin address has no TLS; write http:// and reach it through SSH");
    }
    let rest = url.strip_prefix("http://").unwrap_or(url);
    let authority = rest.trim_end_matches('/');
    let port = authority.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    if port.is_none() || authority.contains(['/', '@', '?', '#']) {
        bail!("--admin {url}: expected an address such as http://127.0.0.1:8900");
    }
    Ok(authority.to_owned())
}

fn token(file: &Path) -> anyhow::Result<String> {
    let text = std::fs::read_to_string(file).with_context(|| {
        format!("cannot read the admin token {}; name it with --token-file or --state", file.display())
    })?;
    Ok(text.trim().to_owned())
}

/// What an answer may take.
#[derive(Debug, Clone, Copy)]
struct AnswerLimits {
    time: Duration,
    bytes: usize,
}

/// A history query over a slow disk may take seconds; ten thousand decisions come to about 4 MB.
const ANSWER: AnswerLimits = AnswerLimits { time: Duration::from_secs(30), bytes: 64 * 1024 * 1024 };
/// A snapshot of a large fleet: as long as one may be, and some.
const LONG_ANSWER: AnswerLimits = AnswerLimits { time: Duration::from_secs(300), bytes: 600 * 1024 * 1024 };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_repeated_for_the_same_node() {
        let args = |state: Option<&str>, admin: Option<&str>| AdminArgs {
            state: state.map(PathBuf::from),
            admin: admin.map(str::to_owned),
            token_file: None,
            json: true,
        };
        assert_eq!(args(None, None).flags(), "");
        assert_eq!(args(Some("/var/lib/phalanx"), None).flags(), " --state /var/lib/phalanx");
        assert_eq!(
            args(Some("my node; rm -rf"), Some("http://[::1]:8900")).flags(),
            " --state 'my node; rm -rf' --admin http://[::1]:8900"
        );
    }

    #[test]
    fn admin_urls_name_host_and_port() {
        for (url, expected) in [
            ("http://127.0.0.1:8900", "127.0.0.1:8900"),
            ("http://[::1]:8900/", "[::1]:8900"),
            ("localhost:8900", "localhost:8900"),
        ] {
            assert_eq!(authority(url).unwrap(), expected);
        }
        for url in
            ["https://127.0.0.1:8900", "http://127.0.0.1", "http://a:b", "http://u:p@h:1", "http://h:1/x"]
        {
            assert!(authority(url).is_err(), "{url}");
        }
    }

    #[test]
    fn a_missing_node_is_named_with_the_fix() {
        let folder = tempfile::tempdir().unwrap();
        let args = AdminArgs {
            state: Some(folder.path().to_path_buf()),
            admin: None,
            token_file: None,
            json: false,
        };
        let error = Client::new(&args).unwrap().get("status").unwrap_err();
        let told = format!("{error:#}");
        assert!(told.contains(&folder.path().join("admin.sock").display().to_string()), "{told}");
        assert!(told.contains("phalanx up"), "{told}");
    }

    #[test]
    fn a_refused_policy_shows_its_faults() {
        let body = br#"{"type":"urn:phalanx:api:policy_refused","title":"Policy refused","status":422,
            "detail":"refused","code":"policy_refused","diagnostics":[
            {"level":"error","file":"policy.toml","line":3,"message":"unknown key `a\u001b[2J`","help":"remove it"}]}"#;
        let told = refusal(StatusCode::UNPROCESSABLE_ENTITY, body).to_string();
        assert_eq!(told, "refused\nerror: policy.toml:3: unknown key `a\\u{1b}[2J`\n  help: remove it");
    }
}
