//! The live stream.

use std::time::Duration;

use axum::body::{Body, BodyDataStream};
use futures_util::StreamExt;
use http::{StatusCode, header};
use serde_json::json;
use tower::ServiceExt;

use crate::support::*;

pub(crate) struct Reader(BodyDataStream, String);

impl Reader {
    pub(crate) async fn open(node: &Node, name: header::HeaderName, value: &str) -> Self {
        Self::of(node, request("GET", "/api/v1/stream").header(name, value)).await
    }

    pub(crate) async fn of(node: &Node, request: http::request::Builder) -> Self {
        let request = request.body(Body::empty()).unwrap();
        let response = node.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.headers()[header::CONTENT_TYPE], "text/event-stream");
        Self(response.into_body().into_data_stream(), String::new())
    }

    /// Reads until the named event; its data. `None` at the end of the stream.
    pub(crate) async fn until(&mut self, name: &str) -> Option<serde_json::Value> {
        let read = async {
            loop {
                if let Some((event, rest)) = self.1.split_once("\n\n") {
                    let (event, rest) = (event.to_owned(), rest.to_owned());
                    self.1 = rest;
                    if event.lines().any(|line| line == format!("event: {name}")) {
                        let data = event.lines().find_map(|line| line.strip_prefix("data: "));
                        return Some(serde_json::from_str(data.unwrap()).unwrap());
                    }
                    continue;
                }
                self.1.push_str(std::str::from_utf8(&self.0.next().await?.unwrap()).unwrap());
            }
        };
        tokio::time::timeout(Duration::from_secs(20), read).await.unwrap_or_else(|_| panic!("no {name} came"))
    }
}

#[tokio::test]
async fn requests_decisions_and_undos_are_told_as_they_happen() {
    let node = Node::start().await;
    let mut reader = Reader::open(&node, header::AUTHORIZATION, &format!("Bearer {}", node.token)).await;
    node.refuse([access(1)]).await;
    assert_eq!(reader.until("request").await.unwrap()["id"], id(1).to_string());
    let order = json!({ "ip": "192.0.2.9", "for_ms": 60_000, "reason": "test" });
    let added = node.call("POST", "/api/v1/decisions", Some(order)).await.json();
    assert_eq!(reader.until("decision").await.unwrap(), added);
    let path = format!("/api/v1/decisions/{}", added["id"].as_str().unwrap());
    let withdrawal = node.call("DELETE", &path, None).await.json();
    assert_eq!(reader.until("withdrawal").await.unwrap(), withdrawal);
    node.counters.requests.store(5, std::sync::atomic::Ordering::Relaxed);
    loop {
        if reader.until("counters").await.unwrap()["requests"] == 5 {
            break;
        }
    }
}

#[tokio::test]
async fn logging_out_ends_the_stream() {
    let node = Node::start().await;
    let (cookie, other) = (node.log_in().await, node.log_in().await);
    let mut mine = Reader::open(&node, header::COOKIE, &cookie).await;
    let mut others = Reader::open(&node, header::COOKIE, &other).await;
    let out = request("POST", "/api/v1/logout")
        .header(header::COOKIE, &cookie)
        .header(header::ORIGIN, "http://127.0.0.1:8900")
        .body(Body::empty());
    assert_eq!(node.send(out.unwrap()).await.status, StatusCode::NO_CONTENT);
    assert_eq!(mine.until("nothing").await, None);
    node.refuse([access(1)]).await;
    assert!(others.until("request").await.is_some(), "the other session goes on");
}

#[tokio::test]
async fn subscribers_are_limited() {
    let node = Node::start().await;
    let token = format!("Bearer {}", node.token);
    let mut readers = Vec::new();
    for _ in 0..16 {
        readers.push(Reader::open(&node, header::AUTHORIZATION, &token).await);
    }
    let one_more = async || {
        let request = request("GET", "/api/v1/stream").header(header::AUTHORIZATION, &token);
        node.send(request.body(Body::empty()).unwrap()).await.code()
    };
    assert_eq!(one_more().await, "too_many_subscribers");
    // One that opens many leaves room for all others.
    let cookie = node.log_in().await;
    let _other = Reader::open(&node, header::COOKIE, &cookie).await;
    readers.pop();
    Reader::open(&node, header::AUTHORIZATION, &token).await;
}

#[tokio::test]
async fn a_flood_of_requests_does_not_cut_the_stream() {
    let node = Node::start().await;
    let mut reader = Reader::open(&node, header::AUTHORIZATION, &format!("Bearer {}", node.token)).await;
    node.refuse((0..3_000).map(access)).await;
    let order = json!({ "ip": "192.0.2.9", "for_ms": 60_000, "reason": "test" });
    assert_eq!(node.call("POST", "/api/v1/decisions", Some(order)).await.status, StatusCode::CREATED);
    assert!(reader.until("decision").await.is_some());
}
