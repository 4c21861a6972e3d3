//! What the node's parts are told of its settings.

use std::sync::Arc;

use anyhow::bail;
use phalanx_control::CopiesPort;
use phalanx_fleet::{FleetHandle, NatsSettings, Sites};
use phalanx_model::Clock;
use phalanx_record::{Copies, CopySettings, RecordSettings};
use phalanx_trust::{FleetSecret, Sealer};

use crate::membership::Identity;
use crate::places_port::PlacesKeeper;
use crate::settings::Settings;
use crate::state::StateFolder;

/// What the recorder is told.
pub(super) fn record_settings(
    settings: &Settings,
    state: &StateFolder,
    sealer: &Arc<Sealer>,
    clock: &Arc<dyn Clock>,
) -> RecordSettings {
    let mut record = RecordSettings::new(
        &state.record(),
        &settings.site,
        &settings.node,
        Arc::clone(sealer),
        Arc::clone(clock),
    );
    if let Some(to) = &settings.logs.access {
        record.access_log = to.clone();
    }
    record.access_format = settings.logs.access_format;
    #[cfg(feature = "otel")]
    {
        record.spans = settings.otlp.as_ref().map(|otlp| phalanx_record::SpanSettings {
            endpoint: otlp.endpoint.clone(),
            service: otlp.service.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        });
    }
    record.modsecurity_log.clone_from(&settings.logs.modsecurity);
    record.audit_log.clone_from(&settings.logs.audit);
    record.events.clone_from(&settings.logs.events);
    record
}

/// What the node keeps of other nodes' histories: something where it may act for operators, and there are others whom it can believe.
pub(super) fn copies(
    (settings, state): (&Settings, &StateFolder),
    fleet: &FleetHandle,
    sealer: Arc<Sealer>,
    (places, clock): (&PlacesKeeper, &Arc<dyn Clock>),
) -> anyhow::Result<CopiesPort> {
    if !fleet.acts_for_operators() || !fleet.shares_secrets() {
        return Ok(CopiesPort::default());
    }
    let copies = Copies::open(CopySettings {
        path: state.copies(),
        site: settings.site.as_str().into(),
        sealer,
        locate: Some(places.locate()),
        clock: Arc::clone(clock),
        bytes_max: settings.copies_bytes_max,
    })?;
    Ok(CopiesPort::new(Some(copies)))
}

/// What the fleet's engine is told; an error where settings and enrolment together name no way to the fleet.
pub(super) fn fleet_settings(
    settings: &Settings,
    state: &StateFolder,
    identity: Option<&Identity>,
) -> anyhow::Result<phalanx_fleet::FleetSettings> {
    let secret_file = settings.fleet.as_ref().and_then(|fleet| fleet.secret_file.as_deref());
    let secret = secret_file.map(FleetSecret::load).transpose()?;
    let membership = identity.map(|identity| Arc::clone(&identity.membership));
    let authority = identity.and_then(|identity| identity.authority.clone());
    let url = nats_url(settings, identity);
    let alone = settings.fleet.is_some() && url.is_none();
    match identity {
        None if alone => bail!(
            "the fleet's NATS server is not named, and this node is not enrolled; give `url` in [fleet], or a join token"
        ),
        Some(identity) if url.is_none() && identity.authority.is_none() => bail!(
            "the fleet's authority names no NATS server; start its node with --fleet tls://HOST:PORT, or name it here"
        ),
        _ => {}
    }
    let nats = url.map(|url| NatsSettings {
        membership: membership.clone(),
        replicas: settings.fleet.as_ref().map_or(1, |fleet| fleet.replicas),
        stewarded: authority.map(|authority| -> Sites { Arc::new(move || authority.lock().sites()) }),
        ..NatsSettings::at(url)
    });
    Ok(phalanx_fleet::FleetSettings {
        fleet_id: match &membership {
            Some(membership) => membership.held().grant.fleet.clone(),
            None => settings.fleet_id.clone(),
        },
        site: settings.site.clone(),
        node: settings.node.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        roles: match identity.is_none_or(Identity::is_control) {
            true => vec!["edge".into(), "control".into()],
            false => vec!["edge".into()],
        },
        state_dir: state.path().to_owned(),
        nats,
        secret,
        membership,
        enrol: Vec::new(),
    })
}

/// Where NATS is: as it was said, else as the authority said.
pub(crate) fn nats_url(settings: &Settings, identity: Option<&Identity>) -> Option<String> {
    let said = settings.fleet.as_ref().and_then(|fleet| fleet.url.clone());
    said.or_else(|| identity.and_then(Identity::nats_url))
}
