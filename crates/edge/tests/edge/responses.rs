//! What responses are hardened with, and pages of the node's own.

use crate::routes::{banned, node};
use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn responses_are_hardened_where_policy_says_and_nowhere_else() {
    let hardened = node(
        "mode = 'off'\nresponses = { headers = 'standard' }\nresponse_headers = { set = { X-Frame-Options = 'DENY' }, remove = ['ETag'] }\n",
    )
    .await;
    let answer = hardened.connect().await.get("/hop").await;
    assert_eq!(answer.header("x-content-type-options").unwrap(), "nosniff");
    assert_eq!(answer.header("x-frame-options").unwrap(), "DENY");
    assert_eq!(answer.header("etag"), None);
    assert_eq!(answer.header("x-hop"), None, "it ends at this hop");
    assert_eq!(answer.header("strict-transport-security"), None, "not over plain HTTP");
    let plain = Node::plain().await;
    let answer = plain.connect().await.get("/hop").await;
    assert_eq!((answer.header("x-frame-options"), answer.header("etag").unwrap().as_str()), (None, "\"a\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_trusted_forwarder_with_tls_browsers_are_told_to_stay_there() {
    let node = node(
        "mode = 'off'\ntrust_forwarded = ['127.0.0.0/8']\nresponses = { hsts = { max_age = '730d', subdomains = true } }\n\
         [[apps.routes]]\npath = '/'\nscheme = 'http'\nredirect = { to = 'https://{host}{path}{query}' }\n",
    )
    .await;
    let mut client = node.connect().await;
    client.send("GET /x HTTP/1.1\r\nHost: shop.test\r\nX-Forwarded-Proto: https\r\n\r\n").await;
    let answer = client.answer().await;
    assert_eq!(answer.text(), "hello");
    assert_eq!(answer.header("strict-transport-security").unwrap(), "max-age=63072000; includeSubDomains");
    let answer = client.get("/x?y").await;
    assert_eq!(
        (answer.head.status, answer.header("location").unwrap().as_str()),
        (308, "https://shop.test/x?y")
    );
    assert_eq!(answer.header("strict-transport-security"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_refusal_has_the_same_bytes_with_a_page_of_the_apps_own_too() {
    let folder = std::env::temp_dir().join(format!("phalanx-pages-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let page = folder.join("refused.html");
    std::fs::write(&page, "<!doctype html><title>{title}</title><p>{status} {request_id}").unwrap();
    let node = node(&format!(
        "pages = {{ refused = '{0}', error = '{0}' }}\nresponses = {{ headers = 'standard' }}\n\
         [[apps.routes]]\npath = '/down'\nmode = 'off'\nupstream = 'http://127.0.0.1:1'\n",
        page.display()
    ))
    .await;
    let mut client = node.connect().await;
    let attack = "/?q=%27%20UNION%20SELECT%20password%20FROM%20users%20WHERE%20id%3D1--%20";
    let by_rule = client.get(attack).await;
    let id = by_rule.header("x-request-id").unwrap();
    assert_eq!(by_rule.text(), format!("<!doctype html><title>Request refused</title><p>403 {id}"));
    assert_eq!(by_rule.header("referrer-policy").unwrap(), "strict-origin-when-cross-origin");
    assert_eq!(
        by_rule
            .head
            .headers()
            .filter(|(name, _)| name.eq_ignore_ascii_case(b"x-content-type-options"))
            .count(),
        1
    );
    let down = client.get("/down").await;
    assert!(down.head.status == 502 && down.text().contains("502 "), "{}", down.text());
    client.send(format!("GET {attack} HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n")).await;
    assert!(client.answer().await.text().starts_with("{\"error\":\"refused\""));
    let by_ban = banned(&node).await;
    let other = by_ban.header("x-request-id").unwrap();
    let bare = |answer: &Answer, id: &str| {
        let fields: Vec<String> = answer
            .head
            .headers()
            .map(|(name, value)| {
                format!("{}: {}", String::from_utf8_lossy(name), String::from_utf8_lossy(value))
                    .replace(id, "ID")
            })
            .filter(|field| field != "Connection: close")
            .collect();
        (fields, answer.text().replace(id, "ID"))
    };
    assert_eq!(bare(&by_ban, &other), bare(&by_rule, &id));
    std::fs::remove_dir_all(&folder).unwrap();
}
