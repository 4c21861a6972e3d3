//! How fast callers may ask.

use axum::body::Body;
use http::{StatusCode, header};
use phalanx_control::Channel;

use crate::support::*;

#[tokio::test]
async fn who_asks_too_fast_is_told_when_to_come_again_and_the_socket_is_not() {
    let node = Node::start().await;
    let mut refused = None;
    for _ in 0..10_000 {
        let answer = node.get("/api/v1/me").await;
        if answer.status != StatusCode::OK {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("nobody may ask for ever");
    assert_eq!(refused.status, StatusCode::TOO_MANY_REQUESTS, "{}", refused.text);
    assert_eq!(refused.json()["code"], "too_many_requests");
    assert_eq!(refused.headers[header::CONTENT_TYPE], "application/problem+json");
    assert_eq!(refused.headers[header::RETRY_AFTER], "1");
    assert_eq!(refused.headers.get_all(header::RETRY_AFTER).iter().count(), 1);
    // What scrapes metrics with the same token goes on, and takes nothing from him.
    assert_eq!(node.get("/metrics").await.status, StatusCode::OK);
    // The node's own user is let in all the same.
    for _ in 0..300 {
        let own = request("GET", "/api/v1/me").extension(Channel::Socket).body(Body::empty()).unwrap();
        assert_eq!(node.send(own).await.status, StatusCode::OK);
    }
    // And so is the caller, once it has waited.
    node.later(1_000);
    assert_eq!(node.get("/api/v1/me").await.status, StatusCode::OK);
}
