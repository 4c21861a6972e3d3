//! Logging in by an identity provider: an honest one, a hostile one, and what somebody in between may try.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::routing::{get, post};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use http::{HeaderMap, StatusCode, header};
use phalanx_control::oidc::{Provider, ProviderSettings, Rights};
use phalanx_model::{Clock, SystemClock};
use phalanx_trust::passkey::{MadePasskey, PasskeyPublic};
use phalanx_trust::{Provided, Role, sha256};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use zeroize::Zeroizing;

use crate::operators::{HOST, enrol};
use crate::support::*;

const ORIGIN: &str = "http://localhost:8900";
const SECRET: &str = "hush & hush";

/// A provider that says what it is told to.
#[derive(Clone)]
struct Idp {
    base: String,
    key: Arc<EcdsaKeyPair>,
    says: Arc<Mutex<Says>>,
}

#[derive(Default)]
struct Says {
    /// Changes to its description.
    description: Value,
    /// Changes to the claims of its tokens.
    claims: Value,
    /// Changes to their heads.
    head: Value,
    /// The name of the key that it publishes.
    key: String,
    /// What it answers instead of a token, or its description.
    instead: Option<(StatusCode, Vec<u8>)>,
    /// What it gave codes for: nonce, challenge, where to.
    codes: BTreeMap<String, [String; 3]>,
    keys_asked: usize,
}

impl Idp {
    async fn listen() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let key = Arc::new(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap());
        let says = Says { key: "one".into(), ..Says::default() };
        let idp = Self { base, key, says: Arc::new(Mutex::new(says)) };
        let router = Router::new()
            .route("/.well-known/openid-configuration", get(description))
            .route("/keys", get(keys))
            .route("/token", post(token))
            .with_state(idp.clone());
        let (stop, stopping) = watch::channel(false);
        tokio::spawn(async move {
            let listeners = phalanx_control::Listeners { tcp: Some(listener), tls: None, socket: None };
            phalanx_control::serve(router, listeners, stopping).await;
            drop(stop);
        });
        idp
    }

    fn settings(&self, name: &str) -> ProviderSettings {
        let rights = |group: &str, role, apps: &[&str]| Rights {
            group: group.into(),
            role,
            apps: apps.iter().map(|app| (*app).to_owned()).collect(),
        };
        ProviderSettings {
            name: name.into(),
            title: "Corp".into(),
            issuer: self.base.clone(),
            client_id: "phalanx".into(),
            client_secret: Arc::new(Zeroizing::new(SECRET.into())),
            ca: None,
            scopes: vec!["openid".into(), "profile".into()],
            name_claim: "preferred_username".into(),
            groups_claim: "groups".into(),
            acr: Vec::new(),
            amr: Vec::new(),
            rights: vec![rights("sec", Role::Owner, &[]), rights("shop", Role::Responder, &["shop"])],
        }
    }

    async fn node(&self) -> Node {
        let provider = Provider::new(self.settings("corp")).unwrap();
        Node::with_providers(vec![Arc::new(provider)], vec![], false).await
    }

    fn says(&self, change: impl FnOnce(&mut Says)) {
        change(&mut self.says.lock().unwrap());
    }

    /// What the provider does when somebody has logged in there: a code, and the way back.
    fn grant(&self, url: &str) -> (String, String) {
        let asked = query(url);
        let mut says = self.says.lock().unwrap();
        let code = format!("code for {}", asked["state"]);
        let kept = ["nonce", "code_challenge", "redirect_uri"].map(|name| asked[name].clone());
        says.codes.insert(code.clone(), kept);
        (code, asked["state"].clone())
    }
}

async fn description(State(idp): State<Idp>) -> (StatusCode, Vec<u8>) {
    let says = idp.says.lock().unwrap();
    if let Some(instead) = &says.instead {
        return instead.clone();
    }
    let base = &idp.base;
    let mut said = json!({
        "issuer": base,
        "authorization_endpoint": format!("{base}/authorize?tenant=a"),
        "token_endpoint": format!("{base}/token"),
        "jwks_uri": format!("{base}/keys"),
        "code_challenge_methods_supported": ["plain", "S256"],
    });
    change(&mut said, &says.description);
    (StatusCode::OK, said.to_string().into_bytes())
}

async fn keys(State(idp): State<Idp>) -> String {
    let mut says = idp.says.lock().unwrap();
    says.keys_asked += 1;
    let public = idp.key.public_key().as_ref();
    let [x, y] = [&public[1..33], &public[33..]].map(|part| BASE64URL_NOPAD.encode(part));
    json!({ "keys": [{ "kty": "EC", "crv": "P-256", "kid": says.key, "x": x, "y": y }] }).to_string()
}

/// As strict as a provider should be: the secret, the code once, its verifier and its place.
async fn token(State(idp): State<Idp>, headers: HeaderMap, body: Bytes) -> (StatusCode, Vec<u8>) {
    let given = query(&format!("/?{}", String::from_utf8_lossy(&body)));
    let basic = BASE64.encode(b"phalanx:hush%20%26%20hush");
    let mut says = idp.says.lock().unwrap();
    let refused = |why: &str| (StatusCode::BAD_REQUEST, json!({ "error": why }).to_string().into_bytes());
    if headers.get(header::AUTHORIZATION).is_none_or(|value| value != &format!("Basic {basic}")) {
        return refused("invalid_client");
    }
    let Some([nonce, challenge, redirect]) = says.codes.remove(&given["code"]) else {
        return refused("invalid_grant");
    };
    let verified = BASE64URL_NOPAD.encode(&sha256(given["code_verifier"].as_bytes())) == challenge;
    if !verified || given["redirect_uri"] != redirect || given["grant_type"] != "authorization_code" {
        return refused("invalid_grant");
    }
    if let Some(instead) = &says.instead {
        return instead.clone();
    }
    let now = SystemClock.now_ms() / 1_000;
    let mut claims = json!({
        "iss": idp.base, "aud": "phalanx", "sub": "00u1", "nonce": nonce, "iat": now, "exp": now + 300,
        "preferred_username": "carol", "groups": ["shop"], "auth_time": now,
    });
    change(&mut claims, &says.claims);
    let mut head = json!({ "alg": "ES256", "kid": "one" });
    change(&mut head, &says.head);
    let text = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let signed = format!("{}.{}", text(&head), text(&claims));
    let signature = match head["alg"].as_str() {
        Some("ES256") => idp.key.sign(&SystemRandom::new(), signed.as_bytes()).unwrap().as_ref().to_vec(),
        Some("HS256") => {
            let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, idp.key.public_key().as_ref());
            aws_lc_rs::hmac::sign(&key, signed.as_bytes()).as_ref().to_vec()
        }
        _ => Vec::new(),
    };
    let token = format!("{signed}.{}", BASE64URL_NOPAD.encode(&signature));
    (
        StatusCode::OK,
        json!({ "access_token": "x", "token_type": "Bearer", "id_token": token }).to_string().into(),
    )
}

fn change(value: &mut Value, by: &Value) {
    for (name, new) in by.as_object().into_iter().flatten() {
        value[name] = new.clone();
    }
}

/// The fields of a query.
fn query(url: &str) -> BTreeMap<String, String> {
    let uri: http::Uri = url.replace(' ', "%20").parse::<http::Uri>().unwrap_or_else(|_| panic!("{url}"));
    axum::extract::Query::<BTreeMap<String, String>>::try_from_uri(&uri).unwrap().0
}

/// A browser with its cookies.
struct Browser<'a> {
    node: &'a Node,
    jar: BTreeMap<String, String>,
}

impl<'a> Browser<'a> {
    fn new(node: &'a Node) -> Self {
        Self { node, jar: BTreeMap::new() }
    }

    async fn send(&mut self, method: &str, path: &str, fields: &[(&str, &str)]) -> Answer {
        let mut request = http::Request::builder().method(method).uri(path).header(header::HOST, HOST);
        let cookies: Vec<String> = self.jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
        request = request.header(header::COOKIE, cookies.join("; "));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let answer = self.node.send(request.body(Body::empty()).unwrap()).await;
        for set in answer.headers.get_all(header::SET_COOKIE) {
            let (name, value) = set.to_str().unwrap().split(';').next().unwrap().split_once('=').unwrap();
            match value {
                "" => self.jar.remove(name),
                value => self.jar.insert(name.to_owned(), value.to_owned()),
            };
        }
        answer
    }

    /// A page of the console asks.
    async fn ask(&mut self, method: &str, path: &str) -> Answer {
        self.send(method, path, &[("origin", ORIGIN)]).await
    }

    /// Begins a login: where the browser is sent.
    async fn begin(&mut self) -> String {
        let answer = self.ask("POST", "/api/v1/login/oidc/corp").await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text);
        answer.json()["url"].as_str().unwrap().to_owned()
    }

    async fn back(&mut self, provider: &str, fields: &[(&str, &str)]) -> Answer {
        let fields: Vec<String> =
            fields.iter().map(|(name, value)| format!("{name}={}", value.replace(' ', "%20"))).collect();
        let path = format!("/login/oidc/{provider}/callback?{}", fields.join("&"));
        self.send("GET", &path, &[("sec-fetch-site", "cross-site"), ("sec-fetch-dest", "document")]).await
    }

    /// A whole login.
    async fn log_in(&mut self, idp: &Idp) -> Answer {
        let (code, state) = idp.grant(&self.begin().await);
        self.back("corp", &[("code", &code), ("state", &state)]).await
    }

    async fn me(&mut self) -> Value {
        self.ask("GET", "/api/v1/me").await.json()
    }
}

#[tokio::test]
async fn a_login_makes_an_account_with_the_rights_of_the_first_group() {
    let idp = Idp::listen().await;
    let mut node = idp.node().await;
    let mut browser = Browser::new(&node);
    let url = browser.begin().await;
    let asked = query(&url);
    assert!(url.starts_with(&format!("{}/authorize?tenant=a&", idp.base)), "{url}");
    for (name, value) in [
        ("response_type", "code"),
        ("client_id", "phalanx"),
        ("scope", "openid profile"),
        ("code_challenge_method", "S256"),
        ("redirect_uri", "http://localhost:8900/login/oidc/corp/callback"),
    ] {
        assert_eq!(asked[name], value, "{url}");
    }
    assert!(asked["state"].len() == 43 && asked["nonce"].len() == 43 && asked["state"] != asked["nonce"]);
    let (code, state) = idp.grant(&url);
    let answer = browser.back("corp", &[("code", &code), ("state", &state), ("session_state", "x")]).await;
    assert_eq!(
        (answer.status, answer.headers[header::LOCATION].to_str().unwrap()),
        (StatusCode::SEE_OTHER, "/")
    );
    let set: Vec<_> =
        answer.headers.get_all(header::SET_COOKIE).iter().map(|set| set.to_str().unwrap()).collect();
    assert!(set[0].contains("HttpOnly; SameSite=Strict"), "{set:?}");
    assert!(set[1].starts_with("phalanx_session_8900_oidc=; ") && set[1].contains("Max-Age=0"), "{set:?}");
    let me = browser.me().await;
    assert_eq!(
        (&me["name"], &me["role"], &me["apps"]),
        (&json!("operator carol"), &json!("responder"), &json!(["shop"]))
    );
    assert_eq!(me["account"]["provider"], "corp");
    let again = Browser::new(&node).log_in(&idp).await;
    assert_eq!((again.status, node.operators.list().len()), (StatusCode::SEE_OTHER, 1));
    let ledger = node.ledger().join("\n");
    assert!(ledger.contains("log in by provider corp (by operator carol)"), "{ledger}");
}

#[tokio::test]
async fn a_login_under_way_is_bound_to_the_consoles_name_and_to_tls() {
    let idp = Idp::listen().await;
    let names = vec![phalanx_control::HostName::parse("console.example:443").unwrap()];
    let provider = Arc::new(Provider::new(idp.settings("corp")).unwrap());
    let node = Node::with_providers(vec![provider], names, true).await;
    let post = |host: &str, origin: &str| {
        http::Request::post("/api/v1/login/oidc/corp")
            .header(header::HOST, host)
            .header(header::ORIGIN, origin)
            .body(Body::empty())
            .unwrap()
    };
    let answer = node.send(post("console.example", "https://console.example")).await;
    let set = answer.headers[header::SET_COOKIE].to_str().unwrap();
    assert!(set.starts_with("__Host-phalanx_session_8900_oidc="), "{set}");
    assert!(set.ends_with("; Path=/; Max-Age=600; HttpOnly; SameSite=Lax; Secure"), "{set}");
    let url = answer.json()["url"].as_str().unwrap().to_owned();
    assert_eq!(query(&url)["redirect_uri"], "https://console.example/login/oidc/corp/callback");
    for (host, origin, status) in [
        ("127.0.0.1:8900", "https://127.0.0.1:8900", StatusCode::BAD_REQUEST),
        ("console.example", "http://console.example", StatusCode::FORBIDDEN),
        ("console.example", "https://evil.example", StatusCode::FORBIDDEN),
    ] {
        assert_eq!(node.send(post(host, origin)).await.status, status, "{origin}");
    }
}

#[tokio::test]
async fn what_a_hostile_provider_or_a_stranger_signs_lets_nobody_in() {
    let idp = Idp::listen().await;
    let node = idp.node().await;
    let now = SystemClock.now_ms() / 1_000;
    for (head, claims) in [
        (json!({}), json!({ "iss": "https://evil.example" })),
        (json!({}), json!({ "aud": "other" })),
        (json!({}), json!({ "aud": ["phalanx", "other"] })),
        (json!({}), json!({ "azp": "other" })),
        (json!({}), json!({ "nonce": "of another login" })),
        (json!({}), json!({ "nonce": null })),
        (json!({}), json!({ "exp": now - 120 })),
        (json!({}), json!({ "iat": now + 3_600 })),
        (json!({}), json!({ "sub": "" })),
        (json!({}), json!({ "auth_time": now - 14 * 3_600 })),
        (json!({}), json!({ "auth_time": now + 3_600 })),
        (json!({ "alg": "none" }), json!({})),
        (json!({ "alg": "HS256" }), json!({})),
        (json!({ "kid": "unknown" }), json!({})),
    ] {
        idp.says(|says| (says.head, says.claims) = (head.clone(), claims.clone()));
        let answer = Browser::new(&node).log_in(&idp).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{head} {claims}: {}", answer.text);
        assert!(answer.headers.get_all(header::SET_COOKIE).iter().count() == 1, "{head} {claims}");
    }
    assert!(node.operators.list().is_empty());
}

#[tokio::test]
async fn a_login_comes_back_once_in_its_own_browser_and_from_its_own_provider() {
    let idp = Idp::listen().await;
    let other = Idp::listen().await;
    let providers = [idp.settings("corp"), other.settings("evil")];
    let providers = providers.map(|settings| Arc::new(Provider::new(settings).unwrap()));
    let node = Node::with_providers(providers.to_vec(), vec![], false).await;
    let (mut browser, mut victim) = (Browser::new(&node), Browser::new(&node));
    let (code, state) = idp.grant(&browser.begin().await);
    let begun = browser.jar.clone();
    // Somebody else's browser, led there by an attacker, with a login of its own or without.
    let stolen: &[(&str, &str)] = &[("code", &code), ("state", &state)];
    assert_eq!(victim.back("corp", stolen).await.status, StatusCode::BAD_REQUEST);
    victim.begin().await;
    assert_eq!(victim.back("corp", stolen).await.status, StatusCode::BAD_REQUEST);
    assert!(victim.jar.is_empty());
    // The answer of one provider at the place of another, and one that says so itself.
    assert_eq!(browser.back("evil", stolen).await.status, StatusCode::BAD_REQUEST);
    browser.jar = begun.clone();
    let inside = format!("/login/oidc/corp/callback?code=x&state={state}");
    let framed = browser.send("GET", &inside, &[("sec-fetch-dest", "iframe")]).await;
    assert_eq!(framed.status, StatusCode::BAD_REQUEST);
    browser.jar = begun.clone();
    assert_eq!(browser.send("HEAD", &inside, &[]).await.status, StatusCode::BAD_REQUEST);
    browser.jar = begun.clone();
    assert_eq!(browser.back("corp", stolen).await.status, StatusCode::SEE_OTHER);
    let session = browser.jar.clone();
    browser.jar = begun;
    assert_eq!(browser.back("corp", stolen).await.status, StatusCode::BAD_REQUEST, "a state counts once");
    // A code that was used, or is another's, in a login of one's own.
    let (_, fresh) = idp.grant(&victim.begin().await);
    assert_eq!(
        victim.back("corp", &[("code", &code), ("state", &fresh)]).await.status,
        StatusCode::UNAUTHORIZED
    );
    let (others, _) = idp.grant(&browser.begin().await);
    let (_, mine) = idp.grant(&victim.begin().await);
    assert_eq!(
        victim.back("corp", &[("code", &others), ("state", &mine)]).await.status,
        StatusCode::UNAUTHORIZED
    );
    browser.jar = session;
    assert_eq!(browser.me().await["name"], "operator carol", "none of it ended the session that there is");
}

#[tokio::test]
async fn the_answer_says_of_which_provider_it_is_where_that_says_so() {
    let idp = Idp::listen().await;
    idp.says(|says| says.description = json!({ "authorization_response_iss_parameter_supported": true }));
    let node = idp.node().await;
    for (issuer, status) in [
        (None, StatusCode::UNAUTHORIZED),
        (Some("https://evil.example"), StatusCode::UNAUTHORIZED),
        (Some(idp.base.as_str()), StatusCode::SEE_OTHER),
    ] {
        let mut browser = Browser::new(&node);
        let (code, state) = idp.grant(&browser.begin().await);
        let mut fields = vec![("code", code.as_str()), ("state", state.as_str())];
        fields.extend(issuer.map(|issuer| ("iss", issuer)));
        assert_eq!(browser.back("corp", &fields).await.status, status, "{issuer:?}");
    }
    let mut browser = Browser::new(&node);
    let (_, state) = idp.grant(&browser.begin().await);
    let fields = [("error", "%3Cscript%3E"), ("state", state.as_str()), ("iss", idp.base.as_str())];
    let refused = browser.back("corp", &fields).await;
    assert_eq!(refused.status, StatusCode::UNAUTHORIZED);
    assert!(!refused.text.contains("<script>"), "{}", refused.text);
}

#[tokio::test]
async fn an_answer_without_a_code_of_this_provider_uses_no_login_up() {
    let idp = Idp::listen().await;
    idp.says(|says| says.description = json!({ "authorization_response_iss_parameter_supported": true }));
    let node = idp.node().await;
    let mut browser = Browser::new(&node);
    let (code, state) = idp.grant(&browser.begin().await);
    let begun = browser.jar.clone();
    for fields in [
        vec![("error", "server_error"), ("iss", idp.base.as_str())],
        vec![("iss", idp.base.as_str())],
        vec![("code", "x"), ("iss", "https://evil.example")],
    ] {
        browser.jar = begun.clone();
        let fields = [fields, vec![("state", state.as_str())]].concat();
        assert_eq!(browser.back("corp", &fields).await.status, StatusCode::UNAUTHORIZED, "{fields:?}");
    }
    browser.jar = begun;
    let fields = [("code", code.as_str()), ("state", state.as_str()), ("iss", idp.base.as_str())];
    assert_eq!(browser.back("corp", &fields).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn a_login_begins_on_a_page_of_the_console_alone() {
    let idp = Idp::listen().await;
    let node = idp.node().await;
    let mut browser = Browser::new(&node);
    for (fields, status) in [
        (vec![], StatusCode::FORBIDDEN),
        (vec![("origin", "http://evil.example")], StatusCode::FORBIDDEN),
        (vec![("origin", ORIGIN), ("sec-fetch-site", "cross-site")], StatusCode::FORBIDDEN),
        (vec![("origin", ORIGIN)], StatusCode::OK),
    ] {
        let answer = browser.send("POST", "/api/v1/login/oidc/corp", &fields).await;
        assert_eq!(answer.status, status, "{fields:?}");
    }
    assert_eq!(browser.ask("GET", "/api/v1/login/oidc/corp").await.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(browser.ask("POST", "/api/v1/login/oidc/none").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn who_is_in_no_group_or_was_shut_out_here_stays_out_and_stands_in_the_ledger() {
    let idp = Idp::listen().await;
    let mut node = idp.node().await;
    for claims in [json!({ "groups": ["sales"] }), json!({ "groups": null }), json!({ "groups": [] })] {
        idp.says(|says| says.claims = claims.clone());
        assert_eq!(Browser::new(&node).log_in(&idp).await.status, StatusCode::FORBIDDEN, "{claims}");
    }
    assert!(node.operators.list().is_empty());
    idp.says(|says| says.claims = Value::Null);
    let mut browser = Browser::new(&node);
    assert_eq!(browser.log_in(&idp).await.status, StatusCode::SEE_OTHER);
    let edit = json!({ "disabled": true });
    assert_eq!(node.call("PATCH", "/api/v1/operators/carol", Some(edit)).await.status, StatusCode::OK);
    assert_eq!(browser.ask("GET", "/api/v1/me").await.status, StatusCode::UNAUTHORIZED, "his session ends");
    assert_eq!(Browser::new(&node).log_in(&idp).await.status, StatusCode::FORBIDDEN);
    node.call("DELETE", "/api/v1/operators/carol", None).await;
    assert_eq!(Browser::new(&node).log_in(&idp).await.status, StatusCode::FORBIDDEN);
    let ledger = node.ledger().join("\n");
    assert!(ledger.contains("keep out subject 00u1: he is in no group"), "{ledger}");
    assert!(ledger.contains("keep out subject 00u1: the account was removed"), "{ledger}");
}

#[tokio::test]
async fn rights_follow_the_provider_at_the_next_login_and_end_sessions_of_before() {
    let idp = Idp::listen().await;
    let node = idp.node().await;
    let (mut one, mut two) = (Browser::new(&node), Browser::new(&node));
    one.log_in(&idp).await;
    idp.says(|says| says.claims = json!({ "groups": ["shop", "sec"], "preferred_username": "eve" }));
    two.log_in(&idp).await;
    assert_eq!(two.me().await["role"], "owner");
    assert_eq!(two.me().await["name"], "operator carol", "a name is for ever");
    assert_eq!(one.ask("GET", "/api/v1/me").await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn who_has_lost_every_group_loses_his_sessions_with_the_next_login() {
    let idp = Idp::listen().await;
    let node = idp.node().await;
    for groups in [json!([]), Value::Null] {
        idp.says(|says| says.claims = Value::Null);
        let mut browser = Browser::new(&node);
        assert_eq!(browser.log_in(&idp).await.status, StatusCode::SEE_OTHER);
        let before = node.operators.named("carol").unwrap();
        idp.says(|says| says.claims = json!({ "groups": groups }));
        assert_eq!(Browser::new(&node).log_in(&idp).await.status, StatusCode::FORBIDDEN);
        assert_eq!(browser.ask("GET", "/api/v1/me").await.status, StatusCode::UNAUTHORIZED, "{groups}");
        let now = node.operators.named("carol").unwrap();
        assert!(now.role == Role::Viewer && now.generation != before.generation, "at other nodes too");
    }
}

/// Gives carol a passkey at a host.
fn passkey(node: &Node, host: &str) {
    let made = MadePasskey { id: host.into(), public: PasskeyPublic::EdDsa(vec![1; 32]), signed: 0 };
    let carol = node.operators.named("carol").unwrap();
    node.operators.add_passkey(&carol, made, ("key".into(), host.into()), 1).unwrap();
}

#[tokio::test]
async fn who_has_a_passkey_here_proves_nothing_by_the_provider() {
    let idp = Idp::listen().await;
    let node = idp.node().await;
    let mut browser = Browser::new(&node);
    idp.says(|says| says.claims = json!({ "groups": ["sec"], "auth_time": null }));
    browser.log_in(&idp).await;
    // One that cannot be shown here holds nobody up.
    passkey(&node, "console.example");
    let asked = browser.ask("POST", "/api/v1/me/prove/oidc").await;
    assert_eq!(asked.status, StatusCode::OK, "{}", asked.text);
    idp.says(|says| says.claims = json!({ "groups": ["sec"] }));
    let (code, state) = idp.grant(asked.json()["url"].as_str().unwrap());
    passkey(&node, "localhost");
    let back = browser.back("corp", &[("code", &code), ("state", &state)]).await;
    assert_eq!(back.status, StatusCode::UNAUTHORIZED, "it was made meanwhile");
    let refused = browser.ask("POST", "/api/v1/me/prove/oidc").await;
    assert_eq!((refused.status, &refused.json()["code"]), (StatusCode::CONFLICT, &json!("passkey")));
    browser.log_in(&idp).await;
    let refused = browser.ask("POST", "/api/v1/operators/carol/reset").await;
    assert_eq!(refused.json()["code"], "fresh_factor", "a login is no proof then: {}", refused.text);
}

#[tokio::test]
async fn whose_account_was_made_under_another_name_of_the_provider_proves_himself_by_it() {
    let idp = Idp::listen().await;
    let node = idp.node().await;
    let before = Provided {
        provider: "before".into(),
        issuer: idp.base.clone(),
        subject: "00u1".into(),
        name: "carol".into(),
        role: Role::Viewer,
        apps: Vec::new(),
        on: "fra/a".into(),
    };
    node.operators.provide(&before, 1).unwrap();
    let mut browser = Browser::new(&node);
    browser.log_in(&idp).await;
    assert_eq!(node.operators.list().len(), 1);
    let asked = browser.ask("POST", "/api/v1/me/prove/oidc").await;
    assert_eq!(asked.status, StatusCode::OK, "{}", asked.text);
    let (code, state) = idp.grant(asked.json()["url"].as_str().unwrap());
    let back = browser.back("corp", &[("code", &code), ("state", &state)]).await;
    assert_eq!(back.status, StatusCode::SEE_OTHER, "{}", back.text);
}

#[tokio::test]
async fn what_is_dangerous_needs_that_he_proved_himself_to_the_provider_just_now() {
    let idp = Idp::listen().await;
    let node = idp.node().await;
    let owner = |says: &mut Says, auth_time: Value| {
        says.claims = json!({ "groups": ["sec"], "auth_time": auth_time })
    };
    let now = SystemClock.now_ms() / 1_000;
    let mut browser = Browser::new(&node);
    for auth_time in [Value::Null, json!(now - 3_600)] {
        idp.says(|says| owner(says, auth_time.clone()));
        assert_eq!(browser.log_in(&idp).await.status, StatusCode::SEE_OTHER);
        let refused = browser.ask("POST", "/api/v1/operators/carol/reset").await;
        assert_eq!(refused.json()["code"], "fresh_factor", "{auth_time}: {}", refused.text);
    }
    for (claims, status) in [
        // It went by what it knew, does not say, or somebody else sits there.
        (json!({ "groups": ["sec"], "auth_time": now - 3_600 }), StatusCode::UNAUTHORIZED),
        (json!({ "groups": ["sec"], "auth_time": null }), StatusCode::UNAUTHORIZED),
        (json!({ "groups": ["sec"], "sub": "00u2" }), StatusCode::UNAUTHORIZED),
        (json!({ "groups": ["sec"] }), StatusCode::SEE_OTHER),
    ] {
        idp.says(|says| says.claims = claims.clone());
        let answer = browser.ask("POST", "/api/v1/me/prove/oidc").await;
        let url = answer.json()["url"].as_str().unwrap().to_owned();
        assert_eq!((query(&url)["prompt"].as_str(), query(&url)["max_age"].as_str()), ("login", "0"));
        let (code, state) = idp.grant(&url);
        assert_eq!(
            browser.back("corp", &[("code", &code), ("state", &state)]).await.status,
            status,
            "{claims}"
        );
        let allowed = browser.ask("POST", "/api/v1/me/totp").await.status != StatusCode::FORBIDDEN;
        assert_eq!(allowed, status == StatusCode::SEE_OTHER, "{claims}");
    }
    node.later(phalanx_model::limits::FRESH_FACTOR_MS + 1_000);
    let late = browser.ask("POST", "/api/v1/operators/carol/reset").await;
    assert_eq!(late.json()["code"], "fresh_factor", "{}", late.text);
}

#[tokio::test]
async fn an_account_by_a_provider_has_no_other_way_in() {
    let idp = Idp::listen().await;
    let node = idp.node().await;
    let mut browser = Browser::new(&node);
    browser.log_in(&idp).await;
    for path in ["/api/v1/me/totp", "/api/v1/me/tokens"] {
        let body = json!({ "name": "ci", "role": "viewer", "for_ms": 1_000 }).to_string();
        let request = http::Request::post(path)
            .header(header::HOST, HOST)
            .header(header::ORIGIN, ORIGIN)
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::COOKIE, format!("phalanx_session_8900={}", browser.jar["phalanx_session_8900"]));
        let answer = node.send(request.body(Body::from(body)).unwrap()).await;
        assert_eq!(
            (answer.status, &answer.json()["code"]),
            (StatusCode::CONFLICT, &json!("provider")),
            "{path}"
        );
    }
    let token = json!({ "name": "ci", "role": "viewer", "for_ms": 1_000 });
    let made = node.call("POST", "/api/v1/operators/carol/tokens", Some(token)).await;
    assert_eq!(made.status, StatusCode::CONFLICT, "{}", made.text);
    let reset = node.call("POST", "/api/v1/operators/carol/reset", None).await;
    assert_eq!((reset.status, &reset.json()["url"]), (StatusCode::OK, &Value::Null), "{}", reset.text);
    let mut local = enrol(&node, "alice", "owner", &[]).await;
    let refused = local.browser.send("POST", "/api/v1/me/prove/oidc", None).await;
    assert_eq!(refused.status, StatusCode::NOT_FOUND, "{}", refused.text);
}

#[tokio::test]
async fn a_provider_that_is_away_or_describes_itself_wrongly_keeps_its_people_out_and_no_others() {
    let idp = Idp::listen().await;
    let node = idp.node().await;
    for (description, instead, part) in [
        (json!({ "issuer": "https://evil.example" }), None, "calls itself `https://evil.example`"),
        (json!({ "token_endpoint": "http://id.example/token" }), None, "no https:// address"),
        (json!({ "jwks_uri": "file:///etc/passwd" }), None, "is no address"),
        (json!({ "code_challenge_methods_supported": ["plain"] }), None, "PKCE"),
        (json!({ "id_token_signing_alg_values_supported": ["HS256", "none"] }), None, "signs by none of"),
        (json!({ "token_endpoint_auth_methods_supported": ["private_key_jwt"] }), None, "client's secret"),
        (json!({}), Some((StatusCode::FOUND, Vec::new())), "leads elsewhere"),
        (json!({}), Some((StatusCode::SERVICE_UNAVAILABLE, Vec::new())), "503"),
        (json!({}), Some((StatusCode::OK, b"<html>".to_vec())), "cannot be understood"),
        (json!({}), Some((StatusCode::OK, vec![b' '; 1 << 20])), "too large"),
    ] {
        idp.says(|says| (says.description, says.instead) = (description.clone(), instead));
        let row = node.call("POST", "/api/v1/oidc/corp/test", Some(Value::Null)).await.json();
        let fault = row["fault"].as_str().unwrap_or_default();
        assert!(fault.contains(part), "{description}: {fault}");
    }
    let mut browser = Browser::new(&node);
    assert_eq!(browser.ask("POST", "/api/v1/login/oidc/corp").await.status, StatusCode::SERVICE_UNAVAILABLE);
    let shown = browser.ask("GET", "/api/v1/login/oidc").await.json();
    assert_eq!(shown, json!([{ "name": "corp", "title": "Corp", "works": false }]));
    let degraded = node.get("/api/v1/status").await.json()["fleet"]["degraded"].to_string();
    assert!(degraded.contains("nobody logs in by the identity provider corp"), "{degraded}");
    enrol(&node, "alice", "owner", &[]).await;
    idp.says(|says| (says.description, says.instead) = (Value::Null, None));
    let row = node.call("POST", "/api/v1/oidc/corp/test", Some(Value::Null)).await.json();
    assert_eq!((&row["fault"], &row["keys"]), (&Value::Null, &json!(1)));
    assert_eq!(row["redirects"], json!(["http://localhost:8900/login/oidc/corp/callback"]));
    assert_eq!(browser.log_in(&idp).await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn a_provider_that_breaks_when_a_code_is_shown_lets_nobody_in() {
    let idp = Idp::listen().await;
    let node = idp.node().await;
    for (instead, status) in [
        ((StatusCode::OK, b"{}".to_vec()), StatusCode::UNAUTHORIZED),
        ((StatusCode::OK, b"{\"id_token\":7}".to_vec()), StatusCode::UNAUTHORIZED),
        ((StatusCode::OK, b"{\"id_token\":\"a.b.c\"}".to_vec()), StatusCode::UNAUTHORIZED),
        ((StatusCode::FOUND, Vec::new()), StatusCode::UNAUTHORIZED),
        ((StatusCode::OK, vec![b'x'; 1 << 20]), StatusCode::SERVICE_UNAVAILABLE),
    ] {
        let mut browser = Browser::new(&node);
        idp.says(|says| says.instead = None);
        let (code, state) = idp.grant(&browser.begin().await);
        idp.says(|says| says.instead = Some(instead));
        assert_eq!(browser.back("corp", &[("code", &code), ("state", &state)]).await.status, status);
    }
    assert!(node.operators.list().is_empty());
}

#[tokio::test]
async fn a_new_key_is_fetched_when_a_token_names_it_and_at_most_once_a_minute() {
    let idp = Idp::listen().await;
    let node = idp.node().await;
    assert_eq!(Browser::new(&node).log_in(&idp).await.status, StatusCode::SEE_OTHER);
    let asked = || idp.says.lock().unwrap().keys_asked;
    let before = asked();
    idp.says(|says| (says.head, says.key) = (json!({ "kid": "two" }), "two".into()));
    assert_eq!(Browser::new(&node).log_in(&idp).await.status, StatusCode::UNAUTHORIZED, "just read");
    assert_eq!(asked(), before);
    node.later(61_000);
    idp.says(|says| says.claims = json!({ "exp": SystemClock.now_ms() / 1_000 + 600 }));
    assert_eq!(Browser::new(&node).log_in(&idp).await.status, StatusCode::SEE_OTHER);
    assert_eq!(asked(), before + 1);
    idp.says(|says| says.head = json!({ "kid": "three" }));
    for _ in 0..3 {
        assert_eq!(Browser::new(&node).log_in(&idp).await.status, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(asked(), before + 1);
}

#[tokio::test]
async fn tries_that_come_back_are_counted_by_network() {
    let idp = Idp::listen().await;
    let node = idp.node().await;
    let mut statuses = Vec::new();
    for _ in 0..41 {
        let mut browser = Browser::new(&node);
        let (_, state) = idp.grant(&browser.begin().await);
        statuses.push(browser.back("corp", &[("code", "guess"), ("state", &state)]).await.status);
    }
    assert!(statuses[..40].iter().all(|status| *status == StatusCode::UNAUTHORIZED), "{statuses:?}");
    assert_eq!(statuses[40], StatusCode::TOO_MANY_REQUESTS);
}

#[tokio::test]
async fn tests_of_a_provider_are_counted_and_in_the_ledger() {
    let idp = Idp::listen().await;
    let mut node = idp.node().await;
    for _ in 0..30 {
        let tested = node.call("POST", "/api/v1/oidc/corp/test", Some(Value::Null)).await;
        assert_eq!(tested.status, StatusCode::OK, "{}", tested.text);
    }
    let (asked, entries) = (idp.says.lock().unwrap().keys_asked, node.ledger());
    let entries = entries.iter().filter(|entry| entry.contains("test the identity provider corp"));
    // The node itself asks when it starts.
    assert!(asked >= 30 && entries.count() == 30, "{asked}");
    let refused = node.call("POST", "/api/v1/oidc/corp/test", Some(Value::Null)).await;
    assert_eq!((refused.status, refused.code().as_str()), (StatusCode::TOO_MANY_REQUESTS, "too_many_tests"));
    assert_eq!((idp.says.lock().unwrap().keys_asked, node.ledger().len()), (asked, 0));
    assert_eq!(Browser::new(&node).log_in(&idp).await.status, StatusCode::SEE_OTHER, "logins go on");
    node.later(15 * 60_000);
    let again = node.call("POST", "/api/v1/oidc/corp/test", Some(Value::Null)).await;
    assert_eq!(again.status, StatusCode::OK);
}

#[tokio::test]
async fn accounts_of_one_name_do_not_approve_each_others_changes() {
    let idp = Idp::listen().await;
    let node = idp.node().await;
    let mut ann = enrol(&node, "ann", "editor", &[]).await;
    let text = format!("{OWN_POLICY}mode = \"off\"\n");
    let files = json!({ "policy.toml": BASE64.encode(text.as_bytes()) });
    let order = json!({ "entry": "policy.toml", "files": files, "reason": "a test" });
    let change = ann.browser.send("POST", "/api/v1/policy/changes", Some(order)).await.json();
    let approve = format!("/api/v1/policy/changes/{}/approve", change["id"].as_str().unwrap());
    for (name, status, code) in
        [("ann@corp.example", StatusCode::FORBIDDEN, "own_name"), ("carol", StatusCode::OK, "")]
    {
        idp.says(|says| says.claims = json!({ "sub": name, "preferred_username": name, "groups": ["sec"] }));
        let mut browser = Browser::new(&node);
        browser.log_in(&idp).await;
        let cookies: Vec<String> =
            browser.jar.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let request = http::Request::post(&approve)
            .header(header::HOST, HOST)
            .header(header::ORIGIN, ORIGIN)
            .header(header::COOKIE, cookies.join("; "))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Body::from(json!({ "hash": change["hash"] }).to_string()));
        let answer = node.send(request.unwrap()).await;
        assert_eq!(answer.status, status, "{name}: {}", answer.text);
        assert!(code.is_empty() || answer.code() == code, "{name}: {}", answer.text);
    }
    let rows = node.get("/api/v1/operators").await.json();
    let ways: Vec<_> = rows.as_array().unwrap().iter().map(|row| row["via"].clone()).collect();
    assert_eq!(ways, ["admin token", "provider corp", "provider corp"]);
}
