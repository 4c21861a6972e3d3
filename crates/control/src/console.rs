//! The console's files, embedded at build time, and the pages shown instead of them. None of this holds data.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{Html, IntoResponse, Response};
use http::{HeaderName, HeaderValue, Method, StatusCode, header};
use rust_embed::{Embed, EmbeddedFile};

use crate::error::ApiError;

/// What `cargo xtask console` built; empty without it.
#[derive(Embed)]
#[folder = "../../console/dist/"]
#[allow_missing = true]
struct Files;

/// Everything that is no API path: a file of the console, or its first page, whose script finds the rest.
pub(crate) async fn serve(request: Request) -> Response {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return ApiError::not_found("no such path").into_response();
    }
    let path = request.uri().path().trim_start_matches('/');
    if path.starts_with("api/") {
        return ApiError::not_found("no such path; the API is below /api/v1").into_response();
    }
    let known = request.headers().get(header::IF_NONE_MATCH);
    match Files::get(if path.is_empty() { INDEX } else { path }) {
        Some(found) => file(path, found, known),
        // A path with an extension is a file that does not exist; others are places within the console.
        None if path != INDEX && path.rsplit('/').next().is_some_and(|name| name.contains('.')) => {
            ApiError::not_found("no such file").into_response()
        }
        None => match Files::get(INDEX) {
            Some(index) => file(INDEX, index, known),
            None => not_built(),
        },
    }
}

/// Adds the headers that bind browsers, to every answer.
pub(crate) async fn security_headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in SECURITY_HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    // Only the console's files say otherwise.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}

/// The page for a login link that is spent, too old, or wrong.
pub(crate) fn no_login(status: StatusCode) -> Response {
    page(
        status,
        "This login link does not work",
        "A link is good once and for ten minutes. Run <code>phalanx login</code> on the node for a new one.",
    )
}

/// The page for a login by an identity provider that let nobody in. `why` is one of our own sentences.
pub(crate) fn no_entry(status: StatusCode, why: &str) -> Response {
    let text = format!("{why} Nothing was changed. <a href=\"/\">Back to the console</a>");
    page(status, "You are not logged in", &text)
}

fn not_built() -> Response {
    page(
        StatusCode::OK,
        "The console is not part of this build",
        "The API answers below <code>/api/v1</code>. To build the console, run <code>cargo xtask console</code>, then build \
         Phalanx again.",
    )
}

fn page(status: StatusCode, title: &str, text: &str) -> Response {
    let html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>{title} - Phalanx</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><meta name=\"color-scheme\" content=\"light dark\">\
         <h1>{title}</h1><p>{text}</p></html>\n"
    );
    (status, Html(html)).into_response()
}

fn file(path: &str, file: EmbeddedFile, known: Option<&HeaderValue>) -> Response {
    let hash: String =
        file.metadata.sha256_hash().iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let tag = format!("\"{hash}\"");
    // The bundler puts a hash into the names of what lies in assets/.
    let cache = if path.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    let unchanged = known.is_some_and(|known| known.as_bytes() == tag.as_bytes());
    let headers = [
        (header::CONTENT_TYPE, content_type(path)),
        (header::CACHE_CONTROL, cache),
        (header::ETAG, tag.as_str()),
    ];
    if unchanged {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    (StatusCode::OK, headers, file.data).into_response()
}

fn content_type(path: &str) -> &'static str {
    match path.rsplit('.').next().unwrap_or_default() {
        "js" | "mjs" => "text/javascript; charset=utf-8",
        "css" => "text/css; charset=utf-8",
        "svg" => "image/svg+xml",
        "png" => "image/png",
        "ico" => "image/x-icon",
        "woff2" => "font/woff2",
        "json" | "map" | "webmanifest" => "application/json",
        "txt" => "text/plain; charset=utf-8",
        // The first page, also when it is asked for as "/".
        "html" | "" => "text/html; charset=utf-8",
        _ => "application/octet-stream",
    }
}

const INDEX: &str = "index.html";

const SECURITY_HEADERS: [(&str, &str); 8] = [
    (
        "content-security-policy",
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-opener-policy", "same-origin"),
    ("cross-origin-resource-policy", "same-origin"),
    ("permissions-policy", "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
    ("x-robots-tag", "noindex"),
];
