//! Tells a NATS server in operator mode whom not to serve any more: new claims of the account, given through the system account.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Auth, AuthError, ConnectOptions};
use phalanx_trust::{Membership, SigningKey, nats_login, tls};

use crate::FleetError;

/// Gives the server the account's claims. It cuts the connections of logins that they revoke.
pub async fn update(
    url: &str,
    membership: &Arc<Membership>,
    login: (String, SigningKey),
    claims: String,
) -> Result<(), FleetError> {
    let unreachable = |error: String| FleetError::Unreachable(error);
    let login = Arc::new(login);
    let options = ConnectOptions::with_auth_callback(move |nonce| {
        let login = Arc::clone(&login);
        async move {
            let mut auth = Auth::new();
            auth.jwt = Some(login.0.clone());
            auth.signature = Some(login.1.sign(&nonce).to_vec());
            Ok::<Auth, AuthError>(auth)
        }
    });
    let options = options
        .name("phalanx authority")
        .require_tls(true)
        .tls_client_config(tls::member_client(membership, "nats")?)
        .connection_timeout(TIMEOUT)
        .request_timeout(Some(TIMEOUT));
    let client =
        options.connect(super::addresses(url)?).await.map_err(|error| unreachable(error.to_string()))?;
    let answer = client.request(nats_login::CLAIMS_UPDATE, claims.into()).await;
    let answer = answer.map_err(|error| unreachable(error.to_string()))?;
    let _ = client.drain().await;
    let answer: serde_json::Value = serde_json::from_slice(&answer.payload).unwrap_or_default();
    match answer.get("error") {
        None => Ok(()),
        Some(error) => Err(unreachable(format!("the server refused the account's claims: {error}"))),
    }
}

const TIMEOUT: Duration = Duration::from_secs(5);
