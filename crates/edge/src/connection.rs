//! A client's connection from its first request to its last.

use crate::client::Client;
use crate::control::Activity;
use crate::http2;
use crate::pipeline::{self, After};
use crate::request::Request;

/// Serves requests one after the other, in the order in which they arrive (RFC 9112 section 9.3.2).
pub(crate) async fn serve(mut client: Client) {
    pipeline::on_connect(&mut client);
    if client.worker.shared.settings.h2c && client.begins_with_http2().await {
        return http2::serve(client).await;
    }
    while let Some(arrived) = client.next_head().await {
        let mut request = Box::new(Request::begin(&client, arrived));
        let after = pipeline::serve(&mut client, &mut request).await;
        drop(request);
        match after {
            After::KeepAlive => {
                if client.socket.input.is_empty() {
                    client.release_memory();
                }
            }
            After::Close => break,
            After::Linger => {
                client.control.activity.set(Activity::Refusing);
                return client.linger().await;
            }
        }
    }
}
