//! The management plane: admin API, console, operators' actions; decisions given to and taken from CrowdSec.
//!
//! Flow in names: `Listeners` -> `serve` -> host and origin checks -> authentication -> handler -> fleet, history,
//! policy port -> JSON; changes of fleet and record -> `Hub` -> server-sent events.
//!
//! It runs on threads and a listener of its own. What it needs of the node comes in as [`ControlDeps`]; what it does to
//! the node goes through the fleet and two ports.
//!
//! Playbooks: incident -> `playbook::Run` -> effects, with a journal before and after each.
//!
//! Where the fleet's authority is: `enrol` listens, with TLS, for nodes that join or renew.
//!
//! INVARIANT: nothing with data answers without a token, a console session or the node's own socket, and then only what `access` says.
//! INVARIANT: a bouncer's key opens the list of decisions about whole addresses, for reading, and nothing else.
//! INVARIANT: an operator's action is in the ledger's lane before it takes effect; without room there it is refused.

pub mod api;
mod error;

mod access;
mod auth;
mod body;
mod host;
mod idempotency;
mod limits;
mod open;
mod outgoing;
mod pace;
mod paging;
mod parameters;
mod patient;
mod recorded;
mod throttle;
mod url;

pub mod acme;
mod import;
mod lapi;
pub mod oidc;

mod changes;
pub mod policy_words;

pub mod copies;
mod excluded;
pub mod inquiry;
pub mod suggest;
pub mod suggesting;

pub mod fixes;

pub mod zone;

pub mod playbook;
mod reason;
pub mod receiver;

pub mod replay;
pub mod report;
pub mod reporting;

mod console;
mod handlers;
mod hub;
mod openapi;

mod router;
pub mod serve;

pub mod enrol;

pub use acme::{Acme, AcmeSettings, Challenge};
pub use auth::{Channel, Peer};
pub use changes::Changes;
pub use copies::CopiesPort;
pub use enrol::{Desk, EnrolDeps};
pub use host::{HostName, console_url, login_url};
pub use import::{ImportSettings, Importer};
pub use lapi::{Bouncers, ExemptPort, LapiDeps, PlacePort, router as lapi_router};
pub use openapi::document as openapi_document;
pub use router::{
    Ask, AuthorityPort, BundlePort, ControlDeps, DelegatePort, IncidentsPort, NotAsked, NotReplayed,
    PlaybooksPort, PolicyPort, Reloaded, ReplayPort, RuleWordsPort, RunningPolicy, RunningPort, RunsPort,
    SelfTestPort, StatusPort, SuggestPort, TriedBundle, UpgradePort, WithIds, router,
};
pub use serve::{Listeners, bind_socket, serve};
