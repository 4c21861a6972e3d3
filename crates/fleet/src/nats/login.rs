//! How a member of an enrolled fleet logs in: with the login and the certificate that it holds at that moment.

use std::sync::Arc;

use async_nats::{Auth, AuthError, ConnectOptions};
use phalanx_trust::{Membership, tls};

use super::Inner;
use crate::FleetError;

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

/// The server ends a connection when the login it came with expires. So after each renewal the node connects anew, at a moment of
/// its own choosing and with half a lifetime to spare; what is said meanwhile is queued, and what was missed is in the streams.
pub(super) async fn again_when_renewed(inner: Arc<Inner>, membership: Arc<Membership>) {
    let mut renewed = membership.renewed();
    while renewed.changed().await.is_ok() {
        if let Err(error) = inner.client.force_reconnect().await {
            tracing::debug!(%error, "nats client takes no order to connect anew");
        }
    }
}

fn login(membership: &Membership, nonce: &[u8]) -> Auth {
    let mut auth = Auth::new();
    auth.jwt = Some(membership.held().grant.nats_login.clone());
    auth.signature = Some(membership.sign_nats(nonce).to_vec());
    auth
}
