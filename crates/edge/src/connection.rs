//! A client's connection from its first request to its last.

use crate::check;
use crate::client::Client;
use crate::control::Activity;
use crate::http2;
use crate::passthrough;
use crate::pipeline::{self, After};
use crate::prints;
use crate::proxied;
use crate::request::Request;
use crate::tls::handshake::{self, Shaken};

/// Serves requests one after the other, in the order in which they arrive (RFC 9112 section 9.3.2).
pub(crate) async fn serve(mut client: Client) {
    if client.awaits_proxy_header && !Box::pin(proxied::accept(&mut client)).await {
        return;
    }
    if let Some(listener) = client.tcp {
        return Box::pin(passthrough::serve_listener(&mut client, listener)).await;
    }
    if let Some(listener) = client.tls_listener {
        // In a box of its own, so that an idle connection does not keep room for a handshake.
        match Box::pin(handshake::accept(&mut client, listener)).await {
            Shaken::Agreed => {}
            Shaken::Failed => return,
            Shaken::Answered => return client.linger().await,
            Shaken::Passed(passed) => return Box::pin(passthrough::serve(&mut client, &passed)).await,
        }
    }
    if client.check.is_some() {
        return check::serve(client).await;
    }
    pipeline::on_connect(&mut client);
    if speaks_http2(&mut client).await {
        // In a box of its own, too: a connection of HTTP/1 has no use for its room.
        return Box::pin(http2::serve(client)).await;
    }
    while let Some(arrived) = client.next_head().await {
        let mut request = Box::new(Request::begin(&client, arrived));
        // On a forwarder's connection each request is another client's.
        if client.http_print.is_none() || request.peer_trusted {
            client.http_print = prints::of_head(&request.head);
        }
        let after = pipeline::serve(&mut client, &mut request).await;
        drop(request);
        match after {
            After::KeepAlive => {
                // Requests that are there already and need no wait would else be served without end in one turn.
                tokio::task::coop::consume_budget().await;
                if client.socket.input.is_empty() {
                    client.release_memory();
                }
            }
            After::Close => break,
            After::Abort => return,
            After::Linger => {
                client.control.activity.set(Activity::Refusing);
                return client.linger().await;
            }
        }
    }
    client.close().await;
}

/// With TLS a protocol is agreed on (ALPN), without it is known by how it begins, where that is allowed.
async fn speaks_http2(client: &mut Client) -> bool {
    match &client.tls {
        Some(agreed) => agreed.http2,
        None => client.worker.shared.settings.h2c && client.begins_with_http2().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes_of<F>(_: impl Fn(Client) -> F) -> usize {
        size_of::<F>()
    }

    #[test]
    fn what_a_connection_takes_while_it_is_idle_is_known() {
        let (connection, http2) = (bytes_of(serve), bytes_of(http2::serve));
        println!("a connection takes {connection} bytes, and one of HTTP/2 {http2} more");
        assert!(connection <= 8_192 && http2 <= 4_608, "{connection} {http2}");
    }
}
