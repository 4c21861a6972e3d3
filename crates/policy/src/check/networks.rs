//! Who may ask, by network.

use super::Check;
use crate::networks::Networks;
use crate::toml_text::At;

impl Check<'_> {
    /// Networks that may ask and that may not.
    pub(super) fn networks(&mut self, allow: &[At<String>], deny: &[At<String>]) -> Networks {
        Networks { allow: self.prefixes(allow, "all may ask"), deny: self.prefixes(deny, "nobody may ask") }
    }
}
