//! How forwarders tell their clients' addresses.

use super::Check;
use crate::cdn::built_in;
use crate::policy::{AddressFrom, ClientAddress};
use crate::raw::RawApp;
use crate::suggest::did_you_mean;

impl Check<'_> {
    /// `with_file`: the policy names a file of networks, which may know more of them.
    pub(super) fn client_address(&mut self, raw: &RawApp, with_file: bool) -> ClientAddress {
        let Some(written) = &raw.client_address else { return ClientAddress::default() };
        let mut checked = ClientAddress { certified: written.certificate, ..ClientAddress::default() };
        if let Some(from) = &written.from {
            match AddressFrom::parse(from) {
                Some(from) => checked.from = from,
                None => {
                    let fault = format!("`{}` is no name of a header field", from.value.escape_debug());
                    let fault = self.text.error_at(&from.span, fault);
                    self.found
                        .push(fault.with_help("write `x-forwarded-for`, `forwarded` or a field's name"));
                }
            }
        }
        checked.hops = written.hops.as_ref().map(|_| self.within("hops", written.hops.as_ref(), 1..=16, 1));
        if let (Some(hops), false) = (&written.hops, checked.from.is_list()) {
            let fault = self.text.error_at(&hops.span, "a field with one address has no hops to count");
            self.found.push(fault.with_help("take out `hops`, or write `from = \"x-forwarded-for\"`"));
        }
        if let Some(preset) = &written.preset {
            let said = written.from.as_ref().map(|from| &from.span);
            if let Some(span) = said.or(written.hops.as_ref().map(|hops| &hops.span)) {
                let fault = self.text.error_at(span, "the preset says that already");
                self.found.push(fault.with_help("write either `preset`, or `from` and `hops`"));
            }
            match built_in().get(&preset.value) {
                Some(cdn) if cdn.networks.is_empty() && !with_file => {
                    let fault = format!("the product brings no list of the networks of `{}`", preset.value);
                    let fault = self.text.error_at(&preset.span, fault);
                    self.found.push(fault.with_help("give one with `cdn_networks = \"cdn.toml\"`"));
                }
                None if !with_file => {
                    let fault = format!("there is no preset `{}`", preset.value.escape_debug());
                    let names = || built_in().keys().map(String::as_str);
                    let known = names().collect::<Vec<_>>().join(", ");
                    let help = did_you_mean(&preset.value, names()).unwrap_or(format!("known here: {known}"));
                    let fault = self.text.error_at(&preset.span, fault);
                    self.found.push(fault.with_help(help));
                }
                _ => {}
            }
            checked.preset = Some(preset.value.clone());
        } else if raw.trust_forwarded.is_empty() {
            let fault = self.text.error_at(&written.span, "nobody's fields are believed, whatever they are");
            self.found.push(fault.with_help("name the forwarders: `trust_forwarded = [\"10.0.0.0/8\"]`"));
        }
        checked
    }
}
