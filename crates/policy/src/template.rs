//! Templates of apps: what fits a well-known application, in the policy's own language. The files in `packs/templates`, embedded.
//!
//! A template says only what an app could say itself; `template = "wordpress"` fills in what the app does not say.

/// The names of all templates, in order.
pub fn names() -> impl Iterator<Item = &'static str> {
    TEMPLATES.iter().map(|(name, _)| *name)
}

/// A template by name.
pub fn text(name: &str) -> Option<&'static str> {
    TEMPLATES.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

const TEMPLATES: &[(&str, &str)] = &[
    ("dokuwiki", include_str!("../../../packs/templates/dokuwiki.toml")),
    ("drupal", include_str!("../../../packs/templates/drupal.toml")),
    ("gitlab", include_str!("../../../packs/templates/gitlab.toml")),
    ("grafana", include_str!("../../../packs/templates/grafana.toml")),
    ("json-api", include_str!("../../../packs/templates/json-api.toml")),
    ("mediawiki", include_str!("../../../packs/templates/mediawiki.toml")),
    ("nextcloud", include_str!("../../../packs/templates/nextcloud.toml")),
    ("wordpress", include_str!("../../../packs/templates/wordpress.toml")),
];
