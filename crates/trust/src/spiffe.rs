//! Names in certificates: `spiffe://FLEET/site/SITE/node/NODE` and its relatives.

use std::fmt;
use std::sync::Arc;

use crate::valid_name;

/// Whom or what a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SpiffeId {
    /// The fleet, as the trust domain.
    pub fleet: Arc<str>,
    /// What within the fleet.
    pub what: Named,
}

/// What a certificate names within its fleet.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Named {
    /// The fleet itself: a root.
    Fleet,
    /// A site's intermediate, which signs for the nodes and operators of that site only.
    Site(Arc<str>),
    /// The intermediate of a node to which the authority has delegated its site: it signs for nodes of that site, not for operators.
    Delegate {
        /// The site.
        site: Arc<str>,
        /// The name of the node that holds it.
        node: Arc<str>,
    },
    /// The intermediate that signs for servers only.
    Services,
    /// A node.
    Node {
        /// Its site.
        site: Arc<str>,
        /// Its name.
        node: Arc<str>,
    },
    /// What operators say through a node.
    Operator {
        /// The node's site.
        site: Arc<str>,
        /// The node's name.
        node: Arc<str>,
    },
    /// A server that nodes connect to: `nats`, `enrol`.
    Service(Arc<str>),
}

impl SpiffeId {
    /// Reads a SPIFFE id that one of our certificates may carry.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix("spiffe://")?.split('/');
        let fleet: Arc<str> = parts.next().filter(|name| valid_name(name))?.into();
        let parts: Vec<&str> = parts.collect();
        let what = match parts.as_slice() {
            [] => Named::Fleet,
            ["services"] => Named::Services,
            ["service", name] if valid_name(name) => Named::Service((*name).into()),
            ["site", site] if valid_name(site) => Named::Site((*site).into()),
            ["site", site, kind, node] if valid_name(site) && valid_name(node) => match *kind {
                "node" => Named::Node { site: (*site).into(), node: (*node).into() },
                "operator" => Named::Operator { site: (*site).into(), node: (*node).into() },
                "delegate" => Named::Delegate { site: (*site).into(), node: (*node).into() },
                _ => return None,
            },
            _ => return None,
        };
        Some(Self { fleet, what })
    }

    /// Whether the certificate that `issuer` names may sign for this one: sites for their own people, nobody else for them.
    pub fn may_be_issued_by(&self, issuer: &Self) -> bool {
        self.fleet == issuer.fleet
            && match (&self.what, &issuer.what) {
                (Named::Node { site, .. } | Named::Operator { site, .. }, Named::Site(issuing)) => {
                    site == issuing
                }
                (Named::Node { site, .. }, Named::Delegate { site: issuing, .. }) => site == issuing,
                (Named::Service(_), Named::Services)
                | (Named::Site(_) | Named::Delegate { .. } | Named::Services | Named::Fleet, Named::Fleet) => {
                    true
                }
                _ => false,
            }
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "spiffe://{}", self.fleet)?;
        match &self.what {
            Named::Fleet => Ok(()),
            Named::Site(site) => write!(f, "/site/{site}"),
            Named::Services => f.write_str("/services"),
            Named::Node { site, node } => write!(f, "/site/{site}/node/{node}"),
            Named::Operator { site, node } => write!(f, "/site/{site}/operator/{node}"),
            Named::Delegate { site, node } => write!(f, "/site/{site}/delegate/{node}"),
            Named::Service(name) => write!(f, "/service/{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDS: [&str; 7] = [
        "spiffe://f",
        "spiffe://f/site/fra",
        "spiffe://f/services",
        "spiffe://f/site/fra/node/a",
        "spiffe://f/site/fra/operator/a",
        "spiffe://f/site/fra/delegate/a",
        "spiffe://f/service/nats",
    ];

    #[test]
    fn ids_read_back() {
        for text in IDS {
            assert_eq!(SpiffeId::parse(text).map(|id| id.to_string()).as_deref(), Some(text));
        }
    }

    #[test]
    fn other_names_are_no_ids() {
        for text in [
            "",
            "spiffe://",
            "http://f",
            "spiffe://F",
            "spiffe://f/",
            "spiffe://f/site",
            "spiffe://f/site/a/node",
            "spiffe://f/site/a/node/b/c",
            "spiffe://f/site/a/nodes/b",
            "spiffe://f/site/../node/b",
            "spiffe://f/service/A",
        ] {
            assert_eq!(SpiffeId::parse(text), None, "{text}");
        }
    }

    #[test]
    fn sites_sign_for_their_own_people_only() {
        let id = |text: &str| SpiffeId::parse(text).unwrap();
        for (subject, issuer, may) in [
            ("spiffe://f/site/fra/node/a", "spiffe://f/site/fra", true),
            ("spiffe://f/site/fra/operator/a", "spiffe://f/site/fra", true),
            ("spiffe://f/site/syd/node/a", "spiffe://f/site/fra", false),
            ("spiffe://g/site/fra/node/a", "spiffe://f/site/fra", false),
            ("spiffe://f/site/fra/node/a", "spiffe://f/services", false),
            ("spiffe://f/site/fra/node/a", "spiffe://f", false),
            ("spiffe://f/service/nats", "spiffe://f/site/fra", false),
            ("spiffe://f/service/nats", "spiffe://f/services", true),
            ("spiffe://f/site/fra", "spiffe://f/site/fra", false),
            ("spiffe://f/site/fra", "spiffe://f", true),
            ("spiffe://f/site/fra/delegate/a", "spiffe://f", true),
            ("spiffe://f/site/fra/delegate/a", "spiffe://f/site/fra", false),
            ("spiffe://f/site/fra/node/b", "spiffe://f/site/fra/delegate/a", true),
            ("spiffe://f/site/syd/node/b", "spiffe://f/site/fra/delegate/a", false),
            ("spiffe://f/site/fra/operator/b", "spiffe://f/site/fra/delegate/a", false),
            ("spiffe://f/site/fra/operator/a", "spiffe://f/site/fra/delegate/a", false),
            ("spiffe://f/site/fra/delegate/b", "spiffe://f/site/fra/delegate/a", false),
            ("spiffe://f/service/enrol", "spiffe://f/site/fra/delegate/a", false),
        ] {
            assert_eq!(id(subject).may_be_issued_by(&id(issuer)), may, "{subject} by {issuer}");
        }
    }
}
