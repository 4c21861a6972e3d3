//! What the node has to do with CrowdSec: bouncers that ask it, and sources that it asks.

use std::net::SocketAddr;
use std::sync::Arc;

use phalanx_control::{Bouncers, Importer, LapiDeps, Listeners};
use phalanx_fleet::FleetHandle;
use phalanx_model::Clock;
use phalanx_trust::ApiKeys;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::life::{Purpose, Sockets};
use crate::node::bind;
use crate::places_port::PlacesKeeper;
use crate::policy_port::PolicyKeeper;
use crate::settings::Settings;
use crate::state::StateFolder;

/// Both, before they are served.
pub(crate) struct Crowdsec {
    bouncers: Arc<Bouncers>,
    listener: Option<TcpListener>,
    listen: Option<SocketAddr>,
    imports: Vec<Arc<Importer>>,
}

impl Crowdsec {
    /// Reads the bouncers' keys and takes the address where they ask.
    pub(crate) fn open(settings: &Settings, state: &StateFolder, sockets: &Sockets) -> anyhow::Result<Self> {
        let listener = match settings.lapi {
            Some(listen) => Some(bind(sockets, Purpose::Lapi, listen, "where bouncers ask")?),
            None => None,
        };
        let listen = listener.as_ref().map(TcpListener::local_addr).transpose()?;
        let bouncers = Arc::new(Bouncers::new(ApiKeys::load(&state.bouncers())?));
        Ok(Self { bouncers, listener, listen, imports: Vec::new() })
    }

    /// Reads what the sources need.
    pub(crate) fn import(
        &mut self,
        settings: &Settings,
        fleet: &FleetHandle,
        clock: &Arc<dyn Clock>,
    ) -> anyhow::Result<()> {
        let importer = |import: &phalanx_control::ImportSettings| {
            Importer::new(import.clone(), fleet.clone(), Arc::clone(clock))
                .map(Arc::new)
                .map_err(|fault| anyhow::anyhow!("decisions of {} cannot be imported: {fault}", import.url))
        };
        self.imports = settings.imports.iter().map(importer).collect::<anyhow::Result<_>>()?;
        Ok(())
    }

    pub(crate) fn bouncers(&self) -> Arc<Bouncers> {
        Arc::clone(&self.bouncers)
    }

    pub(crate) fn imports(&self) -> Vec<Arc<Importer>> {
        self.imports.clone()
    }

    /// Where bouncers ask, as it was bound.
    pub(crate) fn listen(&self) -> Option<SocketAddr> {
        self.listen
    }

    /// Asks the sources and answers bouncers until the node stops; nobody without a listener.
    pub(crate) fn serve(
        self,
        (keeper, places): (&Arc<PolicyKeeper>, &PlacesKeeper),
        fleet: &FleetHandle,
        clock: &Arc<dyn Clock>,
        stop: watch::Receiver<bool>,
    ) -> JoinHandle<()> {
        for import in self.imports {
            tokio::spawn(import.run(stop.clone()));
        }
        let (exempt, places) = (keeper.exempt_port(), places.places());
        let deps = LapiDeps {
            bouncers: self.bouncers,
            fleet: fleet.clone(),
            clock: Arc::clone(clock),
            exempt,
            place: Box::new(move |ip| {
                let place = places.load().of(ip);
                (place.asn, place.country)
            }),
        };
        let listener = self.listener;
        tokio::spawn(async move {
            if listener.is_some() {
                let listeners = Listeners { tcp: listener, tls: None, socket: None };
                phalanx_control::serve(phalanx_control::lapi_router(deps), listeners, stop).await;
            }
        })
    }
}
