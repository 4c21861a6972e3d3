//! Identity providers by which operators log in (OpenID Connect): the authorization code flow with PKCE, as RFC 9700 wants it.
//!
//! `settings` says who the provider is and whom it lets in; `http` asks it; `provider` keeps what it says of itself, with its keys; `flow` is
//! one login on its way through a browser. The handlers put them together.
//!
//! INVARIANT: nobody gets in by what cannot be checked. A provider that is away, or says something else than it should, keeps its people
//! out and nobody else.

mod flow;
mod http;
mod provider;
mod settings;

use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) use self::flow::{Flow, FlowFault, Flows, FreshFor};
pub(crate) use self::provider::{NotRedeemed, watch};
pub use self::provider::{Provider, ProviderFault};
pub(crate) use self::settings::Person;
pub use self::settings::{ProviderSettings, Rights};

/// All providers of a node, and the logins by them that are under way.
pub struct Providers {
    by_name: BTreeMap<String, Arc<Provider>>,
    pub(crate) flows: Flows,
}

impl Providers {
    /// These.
    ///
    /// # Errors
    /// When no key can be made for the logins under way.
    pub fn new(providers: Vec<Arc<Provider>>) -> Result<Self, String> {
        let named = |provider: Arc<Provider>| (provider.settings().name.clone(), provider);
        Ok(Self { by_name: providers.into_iter().map(named).collect(), flows: Flows::new()? })
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Arc<Provider>> {
        self.by_name.get(name)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Provider>> {
        self.by_name.values()
    }

    /// What an operator should know.
    pub(crate) fn degraded(&self) -> impl Iterator<Item = String> {
        self.all().filter_map(|provider| {
            let fault = provider.health().fault?;
            let name = &provider.settings().name;
            Some(format!(
                "nobody logs in by the identity provider {name} ({fault}); accounts of this fleet do"
            ))
        })
    }
}

impl std::fmt::Debug for Providers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.all()).finish()
    }
}
