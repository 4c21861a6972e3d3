//! Who tells: this node, and where its console is. What a message says of how to go on.

use serde_json::Value;

/// This node, for those who are told.
#[derive(Debug, Clone)]
pub(super) struct Own {
    /// `SITE/NODE`.
    pub(super) node: String,
    /// Where its console is for others; none where the settings give it no name.
    pub(super) console: Option<String>,
}

impl Own {
    /// The command that shows an incident.
    pub(super) fn show(&self, incident: &str) -> String {
        format!("phalanx incident show {incident}")
    }

    /// Adds the console's page of an incident, where there is one.
    pub(super) fn link(&self, message: &mut Value, incident: &str) {
        if let Some(console) = &self.console {
            message["url"] = format!("{console}/#/incidents/{incident}").into();
        }
    }
}
