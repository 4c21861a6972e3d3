//! How a member of an enrolled fleet logs in: with the login and the certificate that it holds at that moment.

use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Auth, AuthError, Client, ConnectOptions};
use phalanx_trust::{Membership, tls};
use tokio::sync::mpsc;

use super::{Connection, Heard, Inner, NatsSettings};
use crate::FleetError;
use crate::engine::LinkState;

/// Options under which every connection proves the membership anew.
pub(super) fn options(membership: &Arc<Membership>) -> Result<ConnectOptions, FleetError> {
    let client = tls::member_client(membership, "nats")?;
    let membership = Arc::clone(membership);
    let options = ConnectOptions::with_auth_callback(move |nonce| {
        let membership = Arc::clone(&membership);
        async move { Ok::<Auth, AuthError>(login(&membership, &nonce)) }
    });
    Ok(options.require_tls(true).tls_client_config(client))
}

/// The server ends a connection when the login that it came with expires. So after each renewal the node opens a new one, and leaves
/// the old one only when the new one is in use: the link is never down, and nothing is missed in between.
pub(super) async fn again_when_renewed(
    inner: Arc<Inner>,
    settings: NatsSettings,
    membership: Arc<Membership>,
    events: mpsc::Sender<Heard>,
) {
    let mut renewed = membership.renewed();
    let mut number = 0;
    while renewed.changed().await.is_ok() {
        number += 1;
        loop {
            match connect(&inner, &settings, number, events.clone()).await {
                Ok(client) => {
                    let is_up = client.connection_state() == State::Connected;
                    inner.connection.store(Arc::new(Connection::new(client, number)));
                    // What it told of itself before it counted was not heard. The one before may have been down.
                    if is_up && !inner.connected() {
                        inner.link.send_modify(|link| {
                            *link = LinkState { connected: true, ..LinkState::default() }
                        });
                    }
                    inner.session.send_modify(|count| *count = count.wrapping_add(1));
                    break;
                }
                // The old connection may last as long as its login; cut before that, it comes back with the new one.
                Err(error) => tracing::debug!(%error, "no second connection to nats yet"),
            }
            tokio::time::sleep(CONNECT_AGAIN).await;
        }
    }
}

async fn connect(
    inner: &Inner,
    settings: &NatsSettings,
    number: u64,
    events: mpsc::Sender<Heard>,
) -> Result<Client, FleetError> {
    let options = super::options(settings, &inner.author, number, events).await?;
    let connected = options.connect(super::addresses(&settings.url)?).await;
    connected.map_err(|error| FleetError::Unreachable(error.to_string()))
}

fn login(membership: &Membership, nonce: &[u8]) -> Auth {
    let mut auth = Auth::new();
    auth.jwt = Some(membership.held().grant.nats_login.clone());
    auth.signature = Some(membership.sign_nats(nonce).to_vec());
    auth
}

const CONNECT_AGAIN: Duration = Duration::from_secs(10);
