//! What an app does not say, filled in from beneath: its template, the defaults of its site, the defaults of the fleet.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::{Compose, Size, placed, table};
use crate::suggest::did_you_mean;
use crate::template;

impl Compose<'_> {
    /// Fills in every app.
    pub(super) fn layers(&mut self, root: &mut DeTable<'_>, site: Option<&str>) {
        self.check_sites(root);
        let of_fleet = root.get("defaults").map(|defaults| defaults.get_ref().clone());
        let of_site = site
            .and_then(|site| {
                table(table(root.get("sites")?.get_ref())?.get(site)?.get_ref())?.get("defaults")
            })
            .map(|defaults| defaults.get_ref().clone());
        let defaults: Vec<(Size, DeValue<'_>)> =
            of_site.into_iter().chain(of_fleet).map(|defaults| (Size::of(&defaults), defaults)).collect();
        let Some(apps) = root.get_mut("apps") else { return };
        let DeValue::Array(apps) = apps.get_mut() else { return };
        for app in apps.iter_mut() {
            if !self.is_within() {
                return;
            }
            let span = app.span();
            let DeValue::Table(app) = app.get_mut() else { continue };
            let template = self.template(app);
            // What is carried as it is has no protection to inherit.
            if is_true(app, "passthrough") || is_true(app, "tcp") {
                if let Some((_, at)) = template {
                    let help = "take out `template`, or what says that nothing of the app is read";
                    self.error(
                        at,
                        "nothing of this app's requests is read, so that it can follow no template",
                        help,
                    );
                }
                continue;
            }
            if let Some((beneath, at)) = template {
                self.fill(app, (Size::of_table(&beneath), &beneath), &at);
            }
            if !is_false(app, "inherit") {
                let beneath = defaults.iter().filter_map(|(size, defaults)| Some((*size, table(defaults)?)));
                beneath.for_each(|beneath| self.fill(app, beneath, &span));
            }
        }
    }

    /// The template that an app names, and where it names it.
    fn template<'a>(&mut self, app: &DeTable<'a>) -> Option<(DeTable<'a>, Range<usize>)> {
        let named = app.get("template")?;
        let DeValue::String(name) = named.get_ref() else { return None };
        let span = named.span();
        let Some(text) = template::text(name) else {
            let known = || template::names();
            let help = did_you_mean(name, known())
                .unwrap_or_else(|| format!("known: {}", known().collect::<Vec<_>>().join(", ")));
            self.error(span, format!("there is no template `{name}`"), &help);
            return None;
        };
        match DeTable::parse(text)
            .map(|parsed| placed(&DeValue::Table(parsed.into_inner()), &span).into_inner())
        {
            Ok(DeValue::Table(table)) => Some((table, span)),
            _ => {
                self.error(
                    span,
                    format!("the template `{name}` cannot be read"),
                    "this is a fault of the product",
                );
                None
            }
        }
    }

    fn fill<'a>(&mut self, app: &mut DeTable<'a>, (size, beneath): (Size, &DeTable<'a>), at: &Range<usize>) {
        if self.has_room(at.clone(), size) {
            fill(app, beneath);
        }
    }

    fn check_sites(&mut self, root: &DeTable<'_>) {
        let mut of_sites = Vec::new();
        if let Some(sites) = root.get("sites").and_then(|sites| table(sites.get_ref())) {
            for (name, of) in sites.iter() {
                let is_name = !name.get_ref().is_empty()
                    && name.get_ref().len() <= SITE_NAME_BYTES_MAX
                    && name
                        .get_ref()
                        .bytes()
                        .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
                if !is_name {
                    let help = "a site's name has 1 to 32 of a-z, 0-9 and `-`, as in its nodes' settings";
                    self.error(name.span(), format!("`{}` is no name of a site", name.get_ref()), help);
                }
                of_sites.extend(table(of.get_ref()).and_then(|of| of.get("defaults")));
            }
            if sites.len() > SITES_MAX {
                let span = root.get("sites").map(Spanned::span).unwrap_or_default();
                let message = format!("the policy says something of more than {SITES_MAX} sites");
                self.error(span, message, "say for all in `[defaults]` what most share");
            }
        }
        for defaults in root.get("defaults").into_iter().chain(of_sites) {
            let Some(said) = table(defaults.get_ref()) else { continue };
            for (key, _) in said.iter().filter(|(key, _)| OWN.contains(&key.get_ref().as_ref())) {
                let message = format!("`{}` is an app's own, and no default", key.get_ref());
                self.error(key.span(), message, "say it for each app");
            }
        }
    }
}

/// Puts in what is beneath and not said: tables are filled in, lists of things with names are added to, all else stays as it is said.
fn fill<'a>(own: &mut DeTable<'a>, beneath: &DeTable<'a>) {
    for (key, value) in beneath.iter() {
        let name = key.get_ref().as_ref();
        let other_name = match name {
            "upstream" => "upstreams",
            "upstreams" => "upstream",
            same => same,
        };
        let Some(said) = own.get_mut(name) else {
            if !own.contains_key(other_name) {
                own.insert(key.clone(), value.clone());
            }
            continue;
        };
        match (said.get_mut(), value.get_ref()) {
            (DeValue::Table(own), DeValue::Table(beneath)) if !WHOLE.contains(&name) => fill(own, beneath),
            (DeValue::Array(own), DeValue::Array(beneath)) if LISTS.contains(&name) => add(own, beneath),
            _ => {}
        }
    }
}

/// Adds the items whose names are not there. A list that is said to be empty stays empty.
fn add<'a>(own: &mut DeArray<'a>, beneath: &DeArray<'a>) {
    if own.is_empty() {
        return;
    }
    let known: Vec<String> = own.iter().filter_map(identity).collect();
    for item in beneath.iter() {
        if !identity(item).is_some_and(|name| known.contains(&name)) {
            own.push(item.clone());
        }
    }
}

/// What an item of a list is known by: its name, else its path with the methods it is about.
fn identity(item: &Spanned<DeValue<'_>>) -> Option<String> {
    let item = table(item.get_ref())?;
    // An exclusion has no name: each is an allowance of its own.
    if item.contains_key("rules") || item.contains_key("tags") {
        return None;
    }
    let said = |key: &str| match item.get(key).map(Spanned::get_ref) {
        Some(DeValue::String(text)) => Some(text.to_string()),
        _ => None,
    };
    said("name").or_else(|| {
        let conditions = ["path", "exact", "suffix", "path_pattern", "method", "scheme"];
        let said: Vec<String> =
            conditions.iter().filter_map(|key| Some(format!("{key}={}", said(key)?))).collect();
        (!said.is_empty()).then(|| said.join(" "))
    })
}

fn is_true(app: &DeTable<'_>, key: &str) -> bool {
    matches!(app.get(key).map(Spanned::get_ref), Some(DeValue::Boolean(true)))
}

fn is_false(app: &DeTable<'_>, key: &str) -> bool {
    matches!(app.get(key).map(Spanned::get_ref), Some(DeValue::Boolean(false)))
}

/// What only an app itself can say.
const OWN: [&str; 6] = ["name", "hosts", "template", "inherit", "passthrough", "tcp"];
/// Tables that are one choice: said, they are said whole.
const WHOLE: [&str; 7] = [
    "client_address",
    "client_certificate",
    "upstream_tls",
    "maintenance",
    "compression",
    "redirect",
    "reply",
];
/// Lists to which those beneath are added.
const LISTS: [&str; 6] = ["exclusions", "rate_limits", "routes", "logins", "lookups", "payments"];
const SITES_MAX: usize = 64;
const SITE_NAME_BYTES_MAX: usize = 32;
