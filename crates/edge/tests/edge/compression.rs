//! Responses are compressed for clients that take it, and only where that is safe.

use std::io::Read;
use std::sync::Arc;

use phalanx_edge::http1::ResponseFraming;
use phalanx_policy::Compression;

use crate::http2::Http2;
use crate::support::{Answer, Client, Node, pattern};

async fn node() -> Node {
    Node::start(|settings, app| {
        settings.h2c = true;
        app.compression = Some(Arc::new(Compression::default()));
    })
    .await
}

async fn ask(client: &mut Client, method: &str, path: &str, fields: &str) {
    client.send(format!("{method} {path} HTTP/1.1\r\nHost: shop.test\r\n{fields}\r\n")).await;
}

fn decoded(coding: &str, coded: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut reader: Box<dyn Read> = match coding {
        "gzip" => Box::new(flate2::read::GzDecoder::new(coded)),
        "br" => Box::new(brotli::Decompressor::new(coded, 4096)),
        _ => Box::new(zstd::stream::read::Decoder::new(coded).unwrap()),
    };
    reader.read_to_end(&mut out).unwrap();
    out
}

fn is_compressed(answer: &Answer) -> bool {
    answer.header("content-encoding").is_some()
}

#[tokio::test]
async fn a_large_response_is_compressed_as_the_client_likes_it() {
    let node = node().await;
    let mut client = node.connect().await;
    for coding in ["gzip", "br", "zstd"] {
        ask(&mut client, "GET", "/large-text", &format!("Accept-Encoding: {coding}\r\n")).await;
        let answer = client.answer().await;
        assert_eq!(answer.header("content-encoding").as_deref(), Some(coding));
        assert_eq!(answer.header("vary").as_deref(), Some("Accept-Encoding"));
        assert_eq!(answer.head.framing, ResponseFraming::Chunked);
        assert!(answer.body.len() < 16 << 20);
        assert!(decoded(coding, &answer.body) == pattern(16 << 20), "{coding}");
    }
    // The same over HTTP/2, where a stream ends by itself.
    let answer = Http2::to(&node).await.get_with("/large-text", "accept-encoding", "zstd").await;
    assert!(decoded("zstd", answer.body.as_ref().unwrap()) == pattern(16 << 20));
}

#[tokio::test]
async fn what_is_small_or_no_text_or_not_asked_for_stays() {
    let node = node().await;
    let mut client = node.connect().await;
    for (path, accepts) in [
        ("/plain-text", "gzip"),
        ("/large-length", "gzip"),
        ("/page-gzip", "br"),
        ("/large-text", "identity"),
    ] {
        ask(&mut client, "GET", path, &format!("Accept-Encoding: {accepts}\r\n")).await;
        let answer = client.answer().await;
        assert_ne!(answer.header("content-encoding").as_deref(), Some(accepts), "{path}");
        assert!(matches!(answer.head.framing, ResponseFraming::Length(_)), "{path}");
    }
    ask(&mut client, "GET", "/large-text", "").await;
    let answer = client.answer().await;
    assert!(!is_compressed(&answer));
    assert_eq!(answer.header("vary").as_deref(), Some("Accept-Encoding"), "another client gets it otherwise");
}

#[tokio::test]
async fn an_answer_to_head_says_what_a_get_would_get() {
    let node = node().await;
    let mut client = node.connect().await;
    ask(&mut client, "HEAD", "/large-text", "Accept-Encoding: br\r\n").await;
    let answer = client.answer_to(true).await;
    assert_eq!(answer.header("content-encoding").as_deref(), Some("br"));
    assert_eq!(answer.header("content-length"), None);
    assert_eq!(client.get("/plain-text").await.text(), "nothing to hide", "the connection goes on");
}

#[tokio::test]
async fn what_the_upstream_has_said_so_far_is_there_at_once() {
    let node = node().await;
    for coding in ["gzip", "br", "zstd"] {
        let mut client = node.connect().await;
        ask(&mut client, "GET", "/slow-text", &format!("Accept-Encoding: {coding}\r\n")).await;
        client.head_only().await;
        while client.input.is_empty() {
            assert!(client.fill().await > 0);
        }
        node.upstream.state.gate.notify_one();
        let mut decoder = phalanx_edge::http1::BodyDecoder::chunked();
        let mut coded = Vec::new();
        while !decoder.is_done() {
            let step = decoder.step(&client.input).unwrap();
            coded.extend_from_slice(&client.input[step.data]);
            let consumed = step.consumed;
            let _ = client.input.split_to(consumed);
            assert!(consumed > 0 || client.fill().await > 0);
        }
        assert_eq!(decoded(coding, &coded), b"firstsecond");
    }
}

#[tokio::test]
async fn a_body_that_breaks_off_is_not_ended() {
    let node = node().await;
    for coding in ["gzip", "br", "zstd"] {
        let mut client = node.connect().await;
        ask(&mut client, "GET", "/truncated-text", &format!("Accept-Encoding: {coding}\r\n")).await;
        assert!(client.read_answer(false).await.is_none(), "{coding}");
    }
}

#[tokio::test]
async fn an_old_client_gets_it_until_the_connection_ends() {
    let node = node().await;
    let mut client = node.connect().await;
    client.send("GET /large-text HTTP/1.0\r\nHost: shop.test\r\nAccept-Encoding: gzip\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!(answer.head.framing, ResponseFraming::UntilClose);
    assert!(decoded("gzip", &answer.body) == pattern(16 << 20));
}

#[tokio::test]
async fn the_validator_is_weak_wherever_the_body_would_be_compressed() {
    let node = node().await;
    let mut client = node.connect().await;
    ask(&mut client, "GET", "/not-modified", "Accept-Encoding: gzip\r\nIf-None-Match: W/\"a\"\r\n").await;
    assert_eq!(client.answer().await.header("etag").as_deref(), Some("W/\"a\""));
    ask(&mut client, "GET", "/not-modified", "If-None-Match: \"a\"\r\n").await;
    assert_eq!(client.answer().await.header("etag").as_deref(), Some("\"a\""));
}
