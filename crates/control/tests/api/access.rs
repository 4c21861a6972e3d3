//! Who gets in: token, session, socket; hosts and origins.

use axum::body::Body;
use http::{StatusCode, header};
use phalanx_model::{Clock, SystemClock};

use crate::support::*;

#[tokio::test]
async fn nothing_with_data_answers_without_a_token() {
    let node = Node::start().await;
    let document = phalanx_control::openapi_document();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            let answer =
                node.send(bare(&method.to_uppercase(), &path.replace("{id}", &id(1).to_string()))).await;
            let open = operation["security"].as_array().is_some_and(Vec::is_empty);
            assert_eq!(
                answer.status == StatusCode::UNAUTHORIZED,
                !open,
                "{method} {path}: {}",
                answer.status
            );
        }
    }
    for path in ["/api/v1/nothing", "/api/v1/status/", "/api/v1/decisions/x/y"] {
        let answer = node.send(bare("GET", path)).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path} tells nothing to strangers");
        assert_eq!(node.get(path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(node.call("PUT", "/api/v1/status", None).await.code(), "method_not_allowed");
}

#[tokio::test]
async fn liveness_and_readiness_tell_nothing_else() {
    let node = Node::start().await;
    assert_eq!(node.send(bare("GET", "/healthz")).await.json()["status"], "ok");
    let answer = node.send(bare("GET", "/readyz")).await;
    assert_eq!((answer.status, &answer.json()["ready"]), (StatusCode::OK, &serde_json::json!(true)));
    node.ready.store(false, std::sync::atomic::Ordering::SeqCst);
    let answer = node.send(bare("GET", "/readyz")).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    let told =
        serde_json::json!({"ready": false, "reasons": ["the listeners are not bound"], "degraded": []});
    assert_eq!(answer.json(), told);
    assert_eq!(node.get("/api/v1/status").await.json()["not_ready"], "the listeners are not bound");
}

#[tokio::test]
async fn wrong_tokens_are_answered_only_so_often_and_never_lock_the_right_one_out() {
    let node = Node::start().await;
    let try_token = |token: String| {
        let request = request("GET", "/api/v1/status").header(header::AUTHORIZATION, token);
        node.send(request.body(Body::empty()).unwrap())
    };
    for wrong in ["Bearer x", "Bearer ", "Basic x", "x", ""] {
        assert_eq!(try_token(wrong.into()).await.status, StatusCode::UNAUTHORIZED, "{wrong:?}");
    }
    let mut refused = StatusCode::UNAUTHORIZED;
    for n in 0..100 {
        refused = try_token(format!("Bearer {n}")).await.status;
    }
    assert_eq!(refused, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(try_token(format!("bearer {}", node.token)).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_name_that_dns_points_here_is_refused() {
    let node = Node::start().await;
    let with_host = |host: &'static str, path: &'static str| {
        let request = http::Request::builder()
            .uri(path)
            .header(header::HOST, host)
            .header(header::AUTHORIZATION, format!("Bearer {}", node.token));
        node.send(request.body(Body::empty()).unwrap())
    };
    for path in ["/", "/api/v1/status", "/healthz", "/login?ticket=x", "/metrics"] {
        for host in ["evil.example:8900", "evil.example", "127.0.0.1.evil.example:8900", ""] {
            assert_eq!(with_host(host, path).await.status, StatusCode::MISDIRECTED_REQUEST, "{host} {path}");
        }
    }
    for host in ["127.0.0.1:8900", "localhost:8900", "[::1]:8900", "localhost:9000"] {
        assert_eq!(with_host(host, "/api/v1/status").await.status, StatusCode::OK, "{host}");
    }
    let two = request("GET", "/healthz").header(header::HOST, "localhost").body(Body::empty()).unwrap();
    assert_eq!(node.send(two).await.status, StatusCode::MISDIRECTED_REQUEST);
}

#[tokio::test]
async fn pages_of_other_origins_can_do_nothing() {
    let node = Node::start().await;
    let cookie = node.log_in().await;
    let send = |method: &'static str, path: &'static str, headers: &[(&'static str, &'static str)]| {
        let mut request = request(method, path).header(header::COOKIE, &cookie);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        node.send(request.body(Body::empty()).unwrap())
    };
    let ours = ("origin", "http://127.0.0.1:8900");
    for (headers, expected) in [
        (&[ours][..], StatusCode::OK),
        (&[("sec-fetch-site", "same-origin")], StatusCode::OK),
        (&[], StatusCode::FORBIDDEN),
        (&[("origin", "http://evil.example")], StatusCode::FORBIDDEN),
        (&[("origin", "http://127.0.0.1:9999")], StatusCode::FORBIDDEN),
        (&[("origin", "null")], StatusCode::FORBIDDEN),
        (&[ours, ("sec-fetch-site", "cross-site")], StatusCode::FORBIDDEN),
        (&[ours, ("sec-fetch-site", "same-site")], StatusCode::FORBIDDEN),
    ] {
        let answer = send("POST", "/api/v1/policy/reload", headers).await;
        assert_eq!(answer.status, expected, "{headers:?}: {}", answer.text);
    }
    for path in ["/api/v1/stream", "/api/v1/status"] {
        let answer = send("GET", path, &[("origin", "http://evil.example")]).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
        assert!(!answer.headers.contains_key("access-control-allow-origin"));
        let answer = send("GET", path, &[("sec-fetch-site", "cross-site")]).await;
        assert_eq!(answer.status, StatusCode::FORBIDDEN, "{path}");
    }
}

#[tokio::test]
async fn a_login_link_works_once_and_opens_a_session() {
    let node = Node::start().await;
    let answer = node.call("POST", "/api/v1/login-links", None).await;
    assert_eq!(answer.status, StatusCode::CREATED);
    let url = answer.json()["url"].as_str().unwrap().to_owned();
    let path = url.strip_prefix("http://127.0.0.1:8900").unwrap();

    let preview = node.send(bare("HEAD", path)).await;
    assert_eq!(preview.status, StatusCode::BAD_REQUEST, "a preview does not spend the link");
    let answer = node.send(bare("GET", path)).await;
    assert_eq!(
        (answer.status, &answer.headers[header::LOCATION]),
        (StatusCode::SEE_OTHER, &"/".parse().unwrap())
    );
    let cookie = answer.headers[header::SET_COOKIE].to_str().unwrap().to_owned();
    for part in ["HttpOnly", "SameSite=Strict", "Path=/", "Max-Age="] {
        assert!(cookie.contains(part), "{cookie}");
    }
    let again = node.send(bare("GET", path)).await;
    assert_eq!(again.status, StatusCode::UNAUTHORIZED);
    assert!(again.text.contains("phalanx login"));

    let with_cookie = |method: &'static str, path: &'static str| {
        let request = request(method, path)
            .header(header::COOKIE, format!("other=1; {}", cookie.split(';').next().unwrap()))
            .header(header::ORIGIN, "http://127.0.0.1:8900");
        node.send(request.body(Body::empty()).unwrap())
    };
    assert_eq!(with_cookie("GET", "/api/v1/status").await.status, StatusCode::OK);
    let out = with_cookie("POST", "/api/v1/logout").await;
    assert_eq!(out.status, StatusCode::NO_CONTENT);
    assert!(out.headers[header::SET_COOKIE].to_str().unwrap().contains("Max-Age=0"));
    assert_eq!(with_cookie("GET", "/api/v1/status").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn an_old_ticket_opens_nothing() {
    let node = Node::start().await;
    let ticket = node.tickets.issue(SystemClock.now_ms() - 11 * 60_000);
    assert_eq!(
        node.send(bare("GET", &format!("/login?ticket={ticket}"))).await.status,
        StatusCode::UNAUTHORIZED
    );
    assert_eq!(node.send(bare("GET", "/login")).await.status, StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn every_answer_binds_the_browser() {
    let node = Node::start().await;
    for path in
        ["/", "/api/v1/status", "/api/v1/nothing", "/healthz", "/login?ticket=x", "/place/within", "/x.js"]
    {
        let answer = node.send(bare("GET", path)).await;
        let header = |name: &str| answer.headers[name].to_str().unwrap();
        assert!(header("content-security-policy").contains("default-src 'self'"), "{path}");
        assert!(header("content-security-policy").contains("frame-ancestors 'none'"), "{path}");
        assert_eq!(header("x-content-type-options"), "nosniff");
        assert_eq!(header("referrer-policy"), "no-referrer");
        assert!(["no-store", "no-cache"].contains(&header("cache-control")), "{path}");
    }
    assert_eq!(node.get("/api/v1/status").await.headers["cache-control"], "no-store");
}

#[tokio::test]
async fn no_answer_holds_a_secret() {
    let node = Node::start().await;
    node.refuse([access(1)]).await;
    let cookie = node.log_in().await;
    let session = cookie.split_once('=').unwrap().1;
    for path in [
        "/api/v1/status",
        "/api/v1/nodes",
        "/api/v1/events",
        &format!("/api/v1/events/{}", id(1)),
        "/metrics",
        "/api/v1/decisions",
        "/",
    ] {
        let answer = node.get(path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        for secret in [node.token.as_str(), session, "hunter2secret"] {
            assert!(!answer.text.contains(secret), "{path}");
        }
    }
}
