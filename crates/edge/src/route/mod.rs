//! Routes as requests meet them: [`table`] finds the one, [`act`] answers where no upstream is asked, [`edit`] changes what goes on and
//! what comes back.
//!
//! Flow in names: policy -> `compile` -> [`RouteRule`] -> [`RouteTable`](table::RouteTable) in the plan -> `Request::route` -> [`Handling`].
//!
//! INVARIANT: a request without route and an app that is only to forward pay a look at an empty option, nothing more.

pub(crate) mod act;
pub(crate) mod compile;
pub(crate) mod edit;
pub(crate) mod explain;
pub(crate) mod pages;
pub(crate) mod said;
pub(crate) mod table;

use std::sync::Arc;

use bytes::Bytes;
use phalanx_model::PrefixSet;
use phalanx_policy::handling::{Template, UpstreamHost};
use phalanx_policy::route::When;

use crate::plan::AppPlan;
use edit::{Edits, ResponseEdits};
use pages::Pages;

/// A route on its way into a plan.
#[derive(Debug, Clone)]
pub struct RouteRule {
    /// Its name.
    pub name: Arc<str>,
    /// Which requests it is about.
    pub when: When,
    /// Where it differs from its app: all settings that hold for it.
    pub own: Option<Box<AppPlan>>,
    /// It has upstreams of its own.
    pub own_upstreams: bool,
    /// What is done beyond forwarding.
    pub handling: Option<Arc<Handling>>,
}

/// A route of a plan.
#[derive(Debug)]
pub(crate) struct RoutePlan {
    pub(crate) name: Arc<str>,
    /// The place of the settings that hold for it.
    pub(crate) app: u32,
    pub(crate) handling: Option<Arc<Handling>>,
}

/// What is done beyond forwarding.
#[derive(Debug)]
pub struct Handling {
    pub(crate) does: Does,
    /// Segments of the route's path.
    pub(crate) depth: usize,
    pub(crate) parts: Arc<Parts>,
}

/// What many routes of an app have in common.
#[derive(Debug, Default)]
pub(crate) struct Parts {
    pub(crate) maintenance: Option<Maintenance>,
    pub(crate) upstream_host: UpstreamHost,
    pub(crate) requests: Edits,
    pub(crate) responses: Option<ResponseEdits>,
    pub(crate) pages: Option<Pages>,
}

#[derive(Debug)]
pub(crate) struct Maintenance {
    pub(crate) retry_after_s: u32,
    pub(crate) allow: PrefixSet,
}

/// What becomes of a request that nothing refuses.
#[derive(Debug)]
pub(crate) enum Does {
    Forward,
    /// With this in the place of the route's path; it ends without a slash.
    Rewrite(Box<str>),
    Redirect {
        to: Template,
        status: u16,
    },
    Reply {
        status: u16,
        content_type: Box<str>,
        body: Bytes,
    },
}

impl Handling {
    /// Whether clients are sent elsewhere.
    pub(crate) fn redirects(&self) -> bool {
        matches!(self.does, Does::Redirect { .. })
    }

    /// Whether the upstream gets anything other than what the client sent.
    pub(crate) fn changes_requests(&self) -> bool {
        matches!(self.does, Does::Rewrite(_))
            || self.parts.upstream_host != UpstreamHost::Client
            || !self.parts.requests.is_empty()
    }
}
