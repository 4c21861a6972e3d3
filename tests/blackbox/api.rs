//! The admin API, tried from its own document: by schemathesis, which makes requests of all that the document allows and of much that it
//! does not, and holds the answers against it.

use std::process::Command;

use serde_json::Value;

use crate::support::*;

/// What starts another process, never ends, takes files, or says 503 where that is so: a node is asked to drain, too.
const LEFT_OUT: [&str; 4] = ["/api/v1/upgrade", "/api/v1/stream", "/api/v1/fleet/restore", "/readyz"];

/// The answers must be ones that the document knows, with the content that it says; what it does not allow must be refused.
const CHECKS: &str = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,\
    response_schema_conformance,negative_data_rejection,unsupported_method";

#[test]
fn the_api_answers_as_its_document_says() {
    let Ok(tool) = std::env::var("PHALANX_SCHEMATHESIS") else {
        println!("skipped: PHALANX_SCHEMATHESIS does not name a folder with schemathesis");
        return;
    };
    let app = App::start();
    let node = Node::up(&app.url, &[]);
    let token = std::fs::read_to_string(node.state.join("admin.token")).unwrap();
    let mut run = Command::new("python3");
    run.env("PYTHONPATH", &tool).current_dir(&node.state).args(["-m", "schemathesis.cli", "run"]);
    run.arg(format!("http://{}/api/v1/openapi.json", node.admin));
    run.args(["-H", &format!("Authorization: Bearer {}", token.trim()), "--checks", CHECKS]);
    run.args(LEFT_OUT.iter().flat_map(|path| ["--exclude-path", path]));
    run.args([
        "--rate-limit",
        "40/s",
        "--phases",
        "examples,coverage,fuzzing",
        "--max-examples",
        "8",
        "--max-time",
        "60",
    ]);
    run.args([
        "--seed",
        "1",
        "--no-shrink",
        // Threads of Python 3.11 share a count of how deep they are in making trees of source, and stumble over each other.
        "--workers",
        "1",
        "--continue-on-failure",
        "--no-color",
        "--request-timeout",
        "20",
    ]);
    let output = run.output().unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("Tested: "), "{told}");
    assert_eq!(node.admin_get("/healthz").status, 200);
}

#[test]
fn nothing_but_what_the_document_says_is_open() {
    let app = App::start();
    let node = Node::up(&app.url, &[]);
    let document: Value = serde_json::from_slice(&node.admin_get("/api/v1/openapi.json").body).unwrap();
    let mut tried = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        let path = path.replace(['{', '}'], "");
        for (method, operation) in methods.as_object().unwrap() {
            if operation["security"] == Value::Array(Vec::new()) {
                continue;
            }
            let reply = request(node.admin, &method.to_uppercase(), &path, &[], b"");
            assert_eq!(reply.status, 401, "{method} {path}");
            assert_eq!(reply.fields["content-type"], "application/problem+json", "{method} {path}");
            tried += 1;
        }
    }
    assert!(tried > 60, "{tried}");
}
