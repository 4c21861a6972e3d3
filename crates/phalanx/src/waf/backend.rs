//! The backend that the Core Rule Set's tests want: `POST /reflect` answers what the request's JSON body says; every other
//! request is answered with 200 and nothing, as albedo does. In process for one way of running the tests, and as a small
//! HTTP server, `phalanx waf backend`, for the other.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use base64::Engine as _;
use bytes::{Bytes, BytesMut};
use http::{HeaderName, HeaderValue};
use phalanx_edge::http1::parse_head;
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::exchange::{Reply, Request, body_decoder};

/// Arguments of `phalanx waf backend`.
#[derive(Debug, clap::Args)]
pub(crate) struct BackendArgs {
    /// Where to listen; loopback only. Port 0 takes a free one, which is printed
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,
    /// Print one JSON object when ready, instead of text
    #[arg(long)]
    pub(crate) json: bool,
}

/// Serves until it is killed.
pub(crate) fn backend(args: &BackendArgs) -> anyhow::Result<ExitCode> {
    if !args.listen.ip().is_loopback() {
        bail!("--listen {}: it answers whatever it is told to, so it listens on loopback only", args.listen);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(args.listen)
            .await
            .with_context(|| format!("cannot listen on {}", args.listen))?;
        let listen = listener.local_addr()?;
        match args.json {
            true => println!("{}", json!({ "listen": listen.to_string() })),
            false => println!("listening on http://{listen}"),
        }
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            let place = Arc::clone(&room).acquire_owned().await?;
            let (stream, _) = listener.accept().await?;
            tokio::spawn(async move {
                // A broken connection concerns its client alone.
                let _ = serve(stream).await;
                drop(place);
            });
        }
    })
}

async fn serve(mut stream: TcpStream) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut input = BytesMut::new();
    while let Some(request) = read_request(&mut stream, &mut input).await? {
        let reply = reply(&request);
        let bodiless = request.head.method() == b"HEAD" || matches!(reply.status, 100..200 | 204 | 304);
        let mut out = format!("HTTP/1.1 {} reply\r\n", reply.status).into_bytes();
        for (name, value) in &reply.fields {
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        if !bodiless {
            out.extend_from_slice(&reply.body);
        }
        stream.write_all(&out).await?;
    }
    Ok(())
}

/// The next request; `None` when there is none any more.
async fn read_request(stream: &mut TcpStream, input: &mut BytesMut) -> anyhow::Result<Option<Request>> {
    let head = loop {
        if let Ok(head) = parse_head(input) {
            break head;
        }
        if input.len() > HEAD_BYTES_MAX || stream.read_buf(input).await? == 0 {
            return Ok(None);
        }
    };
    drop(input.split_to(head.raw.len()));
    let mut decoder = body_decoder(&head);
    let mut body = Vec::new();
    while !decoder.is_done() {
        let step = decoder.step(input).map_err(|fault| anyhow::anyhow!("{fault}"))?;
        body.extend_from_slice(input.get(step.data).unwrap_or_default());
        drop(input.split_to(step.consumed));
        if step.consumed == 0 && (body.len() > BODY_BYTES_MAX || stream.read_buf(input).await? == 0) {
            return Ok(None);
        }
    }
    Ok(Some(Request { head, body: body.into(), body_broken: false }))
}

/// What the backend answers.
pub(crate) fn reply(request: &Request) -> Reply {
    let path = request.head.path();
    if request.head.method() == b"POST" && (path == b"/reflect" || path.starts_with(b"/reflect/")) {
        return reflected(&request.body);
    }
    if path == b"/capabilities" {
        let endpoints = json!({ "endpoints": [
            { "path": "/*", "methods": ["any"] },
            { "path": "/capabilities", "methods": ["GET"] },
            { "path": "/reflect", "methods": ["POST"], "contentType": "application/json" },
        ] });
        return Reply::new(
            200,
            vec![field("Content-Type", "application/json")],
            endpoints.to_string().into(),
        );
    }
    Reply::new(200, Vec::new(), Bytes::new())
}

/// The body of a request to `/reflect`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Reflection {
    status: u16,
    headers: std::collections::BTreeMap<String, String>,
    body: String,
    encoded_body: String,
}

fn reflected(specification: &[u8]) -> Reply {
    let refused = |why: &'static str| Reply::new(400, Vec::new(), Bytes::from_static(why.as_bytes()));
    let Ok(wanted) = serde_json::from_slice::<Reflection>(specification) else {
        return refused("Invalid JSON in request body");
    };
    let status = match wanted.status {
        0 => 200,
        status @ 100..600 => status,
        _ => return refused("Invalid status code"),
    };
    let body = if wanted.body.is_empty() {
        match base64::engine::general_purpose::STANDARD.decode(&wanted.encoded_body) {
            Ok(body) => body,
            Err(_) => return refused("invalid base64 encoding of response body"),
        }
    } else {
        wanted.body.into_bytes()
    };
    // What is no valid field, or would contradict the framing, is left out.
    let valid = |(name, value): &(String, String)| {
        HeaderName::from_bytes(name.as_bytes()).is_ok() && HeaderValue::from_str(value).is_ok()
    };
    let framing =
        |name: &str| ["content-length", "transfer-encoding"].iter().any(|n| name.eq_ignore_ascii_case(n));
    let mut fields: Vec<_> =
        wanted.headers.into_iter().filter(valid).filter(|(name, _)| !framing(name)).collect();
    if !fields.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-type")) {
        let html = body.trim_ascii_start().first() == Some(&b'<');
        fields.push(field(
            "Content-Type",
            if html { "text/html; charset=utf-8" } else { "text/plain; charset=utf-8" },
        ));
    }
    Reply::new(status, fields, body.into())
}

fn field(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

/// More than a node opens in tests.
const CONNECTIONS_MAX: usize = 512;
const HEAD_BYTES_MAX: usize = 64 * 1024;
const BODY_BYTES_MAX: usize = 16 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(raw: &str) -> Reply {
        reply(&Request::read(raw.as_bytes()).unwrap())
    }

    fn reflect(specification: &str) -> Reply {
        let length = specification.len();
        ask(&format!("POST /reflect HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n{specification}"))
    }

    #[test]
    fn a_reflection_is_what_the_request_says() {
        let reply = reflect(
            r#"{"status":503,"headers":{"X-A":"b","Content-Length":"9","bad name":"c"},"body":"<p>"}"#,
        );
        assert_eq!((reply.status, &reply.body[..]), (503, &b"<p>"[..]));
        let fields: Vec<_> = reply.fields.iter().map(|(n, v)| format!("{n}: {v}")).collect();
        assert_eq!(fields, ["X-A: b", "Content-Type: text/html; charset=utf-8", "Content-Length: 3"]);
        assert_eq!(reflect(r#"{"encodedBody":"aGk="}"#).body, "hi");
    }

    #[test]
    fn what_cannot_be_reflected_is_refused() {
        for specification in ["", "{", r#"{"status":99}"#, r#"{"status":600}"#, r#"{"encodedBody":"?"}"#] {
            assert_eq!(reflect(specification).status, 400, "{specification}");
        }
    }

    #[test]
    fn all_else_is_answered_with_nothing() {
        for line in ["GET /reflect", "GET /a?b=%3Cscript%3E", "DELETE /x"] {
            let reply = ask(&format!("{line} HTTP/1.1\r\nHost: a\r\n\r\n"));
            assert_eq!((reply.status, reply.body.len()), (200, 0), "{line}");
        }
    }
}
