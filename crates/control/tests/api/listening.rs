//! Real listeners: TCP asks for the token, the socket does not.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use http::StatusCode;
use phalanx_control::{Listeners, bind_socket, serve};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

use crate::support::*;

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn the_socket_needs_no_token_and_tcp_does() {
    let node = Node::start().await;
    let path = node.dir.path().join("state/admin.sock");
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let (stop, stopping) = watch::channel(false);
    let listeners = Listeners { tcp: Some(tcp), tls: None, socket: Some(bind_socket(&path).unwrap()) };
    let serving = tokio::spawn(serve(node.router.clone(), listeners, stopping));

    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
    let over_socket = ask(UnixStream::connect(&path).await.unwrap(), "/api/v1/status").await;
    assert!(over_socket.starts_with("HTTP/1.1 200 "), "{over_socket}");
    let over_tcp = ask(TcpStream::connect(address).await.unwrap(), "/api/v1/status").await;
    assert!(over_tcp.starts_with("HTTP/1.1 401 "), "{over_tcp}");

    assert!(bind_socket(&path).unwrap_err().to_string().contains("another node"));
    // A stream is open when the stop comes, and does not delay it.
    let mut open = UnixStream::connect(&path).await.unwrap();
    open.write_all(b"GET /api/v1/stream HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut first = [0; 15];
    open.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    stop.send_replace(true);
    serving.await.unwrap();
    // What a dead node left behind is replaced.
    drop(bind_socket(&path).unwrap());
    assert_eq!(node.get("/api/v1/status").await.status, StatusCode::OK);
}
