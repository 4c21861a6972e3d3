//! What the files that a policy names are for: pages, rules with the data that these read, and all else.
//!
//! What a file is called says nothing about it: a list of bad words may end in `.html`, and rules include whatever they like. So rule
//! files are loaded, and what is read of them is written down.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::files::normal;
use crate::handling::Handling;
use crate::origin_tls::OriginTls;
use crate::route::{Does, ReplyBody, StaticReply};
use crate::seclang::{FileRead, files_read};
use crate::{App, Everywhere, FileSet, Policy, RuleSource, Upstreams};

/// The uses of files by a policy, at any site; files by their normal names.
#[derive(Debug, Default)]
pub(super) struct Uses {
    /// Pages, their pictures, and answers of routes.
    pages: BTreeSet<String>,
    /// What is read for anything else, but by rules.
    others: BTreeSet<String>,
    /// Rule files, and folders with them, as policy names them.
    rules: BTreeSet<PathBuf>,
    /// What is read for each of those, in order.
    pub(super) read: BTreeMap<PathBuf, Vec<FileRead>>,
}

impl Uses {
    /// By a policy with these files.
    pub(super) fn of(policy: &Everywhere, files: &BTreeMap<String, Vec<u8>>) -> Self {
        let mut uses = Self::default();
        for (_, policy) in policy.distinct() {
            uses.policy(policy);
        }
        let set = FileSet::new(files.iter().map(|(name, bytes)| (name.clone(), bytes.clone())));
        let read = |path: &PathBuf| (path.clone(), files_read(&set, std::slice::from_ref(path)));
        uses.read = uses.rules.iter().map(read).collect();
        uses
    }

    /// Whether it is shown to people.
    pub(super) fn is_page(&self, file: &str) -> bool {
        self.pages.contains(file)
    }

    /// Whether it is read for anything but to be shown.
    pub(super) fn is_more(&self, file: &str) -> bool {
        let is_read = || self.read.values().flatten().any(|read| read.name == file);
        self.others.contains(file) || self.rules.iter().any(|path| is_below(file, path)) || is_read()
    }

    /// Whether it is read by rules, and is none of their files.
    pub(super) fn is_data(&self, file: &str) -> bool {
        self.read.values().flatten().any(|read| read.name == file && !read.is_rules)
    }

    fn policy(&mut self, policy: &Policy) {
        let others = policy.cdn_networks.iter().chain(&policy.crawlers).chain(&policy.playbooks.files);
        self.others.extend(others.map(|path| name(path)));
        policy.apps.iter().for_each(|app| self.app(app));
    }

    fn app(&mut self, app: &App) {
        self.handling(&app.handling);
        self.of_rules(&app.rules, &app.extra_rules);
        self.upstreams(&app.upstreams);
        self.others.extend(app.client_certificate.iter().map(|certificate| name(&certificate.ca_file)));
        for route in &app.routes {
            self.handling(&route.handling);
            if let Does::Reply(StaticReply { body: ReplyBody::File(file), .. }) = &route.does {
                self.pages.insert(name(file));
            }
            if let Some(own) = route.own.as_deref() {
                self.of_rules(&own.rules, &own.extra_rules);
                own.upstreams.iter().for_each(|upstreams| self.upstreams(upstreams));
            }
        }
    }

    fn handling(&mut self, handling: &Handling) {
        let pages = &handling.pages;
        let files = [&pages.refused, &pages.error, &pages.maintenance, &pages.brand.logo];
        self.pages.extend(files.into_iter().flatten().map(|path| name(path)));
    }

    fn of_rules(&mut self, rules: &RuleSource, extra: &[PathBuf]) {
        if let RuleSource::Dirs(dirs) = rules {
            self.rules.extend(dirs.iter().cloned());
        }
        self.rules.extend(extra.iter().cloned());
    }

    fn upstreams(&mut self, upstreams: &Upstreams) {
        let tls = upstreams.servers.iter().filter_map(|server| server.tls.as_ref());
        let files = tls.filter_map(|OriginTls { ca_file, .. }| ca_file.as_deref());
        self.others.extend(files.map(name));
    }
}

/// Whether a file is this one, or in this folder or one below it.
pub(super) fn is_below(file: &str, path: &Path) -> bool {
    file.strip_prefix(&name(path)).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn name(path: &Path) -> String {
    normal(&path.to_string_lossy())
}
