//! From checked policy to the plan that workers run: rules are loaded and compiled once per distinct rule set.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use hashbrown::HashMap;
use phalanx_decide::rate::{Pace, Quota, RateKeyPart, RateRule, RateScope};
use phalanx_decide::{
    ChallengeRules, Crawler, DecidePlan, Exempted, Mode, OnError, StrikeRules, ThrottleRules,
};
use phalanx_inspect::{Collections, CompileOptions, Program, Scope};
use phalanx_model::{PrefixSet, names};
use phalanx_policy::cdn::{self, Cdn};
use phalanx_policy::crawler;
use phalanx_policy::exclusion;
use phalanx_policy::handling::Expiry;
use phalanx_policy::policy;
use phalanx_policy::seclang::ir::RuleEngine;
use phalanx_policy::seclang::{LoadOptions, load_baseline, load_dirs_from, read_text};
use phalanx_policy::{
    AddressFrom, App, ChallengeUse, Classes, Diagnostic, Exemption, Files, Networks, Policy, RateAction,
    RateKey, Route, RuleSource, Server, Upstreams, route,
};

use crate::balance::group::UpstreamGroup;
use crate::client_address::{AddressField, AddressSource};
use crate::client_certificate::CertificateRules;
use crate::origins::Origins;
use crate::plan::{AppLimits, AppPlan, EdgePlan, NetworkSets, RaisedRules, UpstreamPlan};
use crate::route::RouteRule;
use crate::route::compile::Handlings;

/// A compiled plan, and what was understood but looks like a mistake.
#[derive(Debug)]
pub struct Compiled {
    /// The plan.
    pub plan: EdgePlan,
    /// Warnings about policy and rules.
    pub warnings: Vec<Diagnostic>,
}

impl EdgePlan {
    /// Compiles a policy. `collections` is what rules remember across requests; a reload passes the same one on.
    ///
    /// # Errors
    /// All faults of all rule sets; no part of such a policy is used.
    pub fn compile(policy: &Policy, collections: &Arc<Collections>) -> Result<Compiled, Vec<Diagnostic>> {
        Self::compile_from(Files::Disk, policy, collections)
    }

    /// As [`EdgePlan::compile`], with the files that the policy names from somewhere else than the disk.
    ///
    /// # Errors
    /// All faults of all rule sets; no part of such a policy is used.
    pub fn compile_from(
        files: Files<'_>,
        policy: &Policy,
        collections: &Arc<Collections>,
    ) -> Result<Compiled, Vec<Diagnostic>> {
        let mut programs = Programs {
            files,
            collections,
            known: HashMap::new(),
            scopes: HashMap::new(),
            exclusions: String::new(),
            warnings: Vec::new(),
            errors: Vec::new(),
        };
        let mut origins = Origins::new(files);
        let mut certificates = CertificateRules::new(files);
        let mut handlings = Handlings::new(files);
        let mut apps = Vec::new();
        let cdns = cdns(files, policy)?;
        for app in &policy.apps {
            let mut plan = app_plan(app, &mut programs, &mut origins);
            if let Err(fault) = client_address(&mut plan, app, &cdns) {
                programs.errors.push(fault);
            }
            plan.client_certificate =
                app.client_certificate.as_ref().and_then(|asked| certificates.of(asked));
            plan.handling = handlings.of(&app.handling, 0, &route::Does::Forward { rewrite: None });
            plan.routes = app
                .routes
                .iter()
                .map(|route| route_rule(route, &plan, (&mut programs, &mut handlings, &mut origins)))
                .collect();
            apps.push(plan);
        }
        programs.errors.append(&mut handlings.errors);
        programs.errors.append(&mut certificates.errors);
        programs.errors.extend(origins.into_errors());
        if !programs.errors.is_empty() {
            return Err(programs.errors);
        }
        let decide = DecidePlan {
            allow: prefixes(&policy.allow),
            allow_until: policy.exemptions.iter().map(exempted).collect(),
            operators: prefixes(&policy.operator_networks),
            forwarders: PrefixSet::default(),
            strikes: StrikeRules {
                count: policy.strikes.count,
                window_ms: policy.strikes.window_ms,
                first_ban_ms: policy.strikes.first_ban_ms,
                max_ban_ms: policy.strikes.max_ban_ms,
            },
            challenge: ChallengeRules {
                bits: policy.challenge.bits,
                pass_ms: policy.challenge.pass_ms,
                by_waiting: policy.challenge.without_scripts,
            },
            crawlers: crawlers(files, policy)?,
            throttle: ThrottleRules::new(
                policy.throttle.rate.count,
                policy.throttle.rate.period_ms,
                policy.throttle.burst,
            ),
        };
        let mut plan = Self::new(policy.version, decide, apps);
        plan.detection.clone_from(&policy.detection);
        Ok(Compiled { plan, warnings: programs.warnings })
    }
}

/// Content delivery networks by name: the product's, and those of the policy's own file.
fn cdns(files: Files<'_>, policy: &Policy) -> Result<BTreeMap<String, Cdn>, Vec<Diagnostic>> {
    let Some(file) = &policy.cdn_networks else { return Ok(cdn::built_in().clone()) };
    let name = file.display().to_string();
    let text = read_text(files, &name)
        .map_err(|(line, message)| vec![Diagnostic::error(name.as_str(), line, message)])?;
    cdn::read(&name, &text, cdn::built_in())
}

/// Crawlers that are known: the product's, and those of the policy's own file.
fn crawlers(files: Files<'_>, policy: &Policy) -> Result<Arc<[Crawler]>, Vec<Diagnostic>> {
    let known = match &policy.crawlers {
        None => crawler::built_in().clone(),
        Some(file) => {
            let name = file.display().to_string();
            let text = read_text(files, &name)
                .map_err(|(line, message)| vec![Diagnostic::error(name.as_str(), line, message)])?;
            crawler::read(&name, &text, crawler::built_in())?
        }
    };
    let compiled = known.into_iter().map(|(name, known)| Crawler {
        agents: known.agents,
        domains: known.domains,
        networks: prefixes(&known.networks),
        ..Crawler::new(&name)
    });
    Ok(compiled.collect())
}

/// How the app's forwarders tell their clients' addresses, and who they are where a preset says it.
fn client_address(plan: &mut AppPlan, app: &App, cdns: &BTreeMap<String, Cdn>) -> Result<(), Diagnostic> {
    let said = &app.client_address;
    let (mut from, mut hops) = (&said.from, said.hops);
    if let Some(preset) = &said.preset {
        let cdn = cdns.get(preset).filter(|cdn| !cdn.networks.is_empty()).ok_or_else(|| {
            let fault = format!("the app `{}` is behind `{preset}`, whose networks no file knows", app.name);
            Diagnostic::error("policy", 0, fault).with_help("add them to the file that `cdn_networks` names")
        })?;
        (from, hops) = (&cdn.from, cdn.hops);
        plan.trust_forwarded = app.trust_forwarded.iter().chain(&cdn.networks).copied().collect();
    }
    let field = match from {
        AddressFrom::XForwardedFor => AddressField::XForwardedFor,
        AddressFrom::Forwarded => AddressField::Forwarded,
        AddressFrom::Field(name) => AddressField::Named(name.as_str().into()),
    };
    plan.client_address = AddressSource { field, hops, certified: said.certified };
    Ok(())
}

fn app_plan(app: &App, programs: &mut Programs<'_>, origins: &mut Origins<'_>) -> AppPlan {
    // Of a connection that is passed on there is nothing to inspect.
    let inspected = if app.passthrough || app.tcp { policy::Mode::Off } else { app.mode };
    programs.exclusions = exclusion::seclang(&app.exclusions);
    let program = programs.of(inspected, (&app.rules, &app.extra_rules), app.paranoia);
    let raised = programs.raised(
        (&app.name, inspected),
        (&app.rules, &app.extra_rules),
        (app.raise_paranoia, app.classes),
    );
    AppPlan {
        raised,
        hosts: app.hosts.clone(),
        mode: mode(app.mode),
        on_error: on_error(app.on_error),
        scope: programs.scope(program.as_ref(), app.classes),
        program,
        limits: app_limits(&app.limits),
        networks: networks(&app.networks),
        challenges: app.challenge == ChallengeUse::Always,
        rates: app.rate_limits.iter().map(|limit| rate_rule(&app.name, limit)).collect(),
        trust_forwarded: prefixes(&app.trust_forwarded),
        client_address: AddressSource::default(),
        client_certificate: None,
        compression: app.compression.clone().map(Arc::new),
        passthrough: app.passthrough,
        tcp: app.tcp,
        accounts: Arc::new(app.accounts.clone()),
        upstreams: upstream_group(&app.upstreams, origins),
        name: app.name.as_str().into(),
        handling: None,
        routes: Vec::new(),
        table: None,
    }
}

/// A route of `app`.
fn route_rule(
    route: &Route,
    app: &AppPlan,
    (programs, handlings, origins): (&mut Programs<'_>, &mut Handlings<'_>, &mut Origins<'_>),
) -> RouteRule {
    let depth = route.when.segments().count();
    let own = route.own.as_ref().map(|own| {
        let program = programs.of(own.mode, (&own.rules, &own.extra_rules), own.paranoia);
        let raised = programs.raised(
            (&app.name, own.mode),
            (&own.rules, &own.extra_rules),
            (own.raise_paranoia, own.classes),
        );
        Box::new(AppPlan {
            raised,
            name: Arc::clone(&app.name),
            hosts: Vec::new(),
            upstreams: match &own.upstreams {
                Some(own) => upstream_group(own, origins),
                None => app.upstreams.clone(),
            },
            mode: mode(own.mode),
            on_error: on_error(own.on_error),
            scope: programs.scope(program.as_ref(), own.classes),
            program,
            limits: app_limits(&own.limits),
            networks: networks(&own.networks),
            challenges: own.challenge == ChallengeUse::Always,
            rates: app.rates.clone(),
            trust_forwarded: app.trust_forwarded.clone(),
            client_address: app.client_address.clone(),
            client_certificate: app.client_certificate.clone(),
            compression: app.compression.clone(),
            passthrough: false,
            tcp: false,
            accounts: Arc::clone(&app.accounts),
            handling: None,
            routes: Vec::new(),
            table: None,
        })
    });
    RouteRule {
        name: route.name.as_str().into(),
        when: route.when.clone(),
        own_upstreams: route.own.as_ref().is_some_and(|own| own.upstreams.is_some()),
        own,
        handling: handlings.of(&route.handling, depth, &route.does),
    }
}

fn networks(networks: &Networks) -> Option<Arc<NetworkSets>> {
    let allow = (!networks.allow.is_empty()).then(|| prefixes(&networks.allow));
    (!networks.is_open()).then(|| Arc::new(NetworkSets { allow, deny: prefixes(&networks.deny) }))
}

fn mode(mode: policy::Mode) -> Mode {
    match mode {
        policy::Mode::Block | policy::Mode::Off => Mode::Block,
        policy::Mode::Observe => Mode::Observe,
    }
}

fn on_error(on_error: policy::OnError) -> OnError {
    match on_error {
        policy::OnError::Deny => OnError::Deny,
        policy::OnError::Allow => OnError::Allow,
    }
}

fn app_limits(limits: &policy::Limits) -> AppLimits {
    AppLimits {
        body_bytes: limits.body_bytes_max,
        body_held_bytes: limits.body_held_bytes_max,
        response_held_bytes: limits.response_held_bytes_max,
        upstream_connect_ms: limits.upstream_connect_max_ms,
        upstream_head_ms: limits.upstream_head_max_ms,
        upstream_gap_ms: limits.upstream_gap_max_ms,
        upstream_total_ms: limits.upstream_total_max_ms.unwrap_or(u64::MAX),
    }
}

fn upstream_group(upstreams: &Upstreams, origins: &mut Origins<'_>) -> UpstreamGroup {
    let mut server = |server: &Server| {
        let at = &server.upstream;
        let place = match &at.socket {
            Some(path) => UpstreamPlan::at_socket(path),
            None => UpstreamPlan::new(&at.host, at.port, &at.path_prefix),
        };
        UpstreamPlan {
            weight: server.weight,
            backup: server.backup,
            requests_max: server.requests_max.unwrap_or(u32::MAX),
            protocol: server.protocol,
            proxy: server.proxy,
            tls: server.tls.as_ref().and_then(|tls| origins.of(tls)),
            ..place
        }
    };
    let mut group = UpstreamGroup::new(upstreams.servers.iter().map(&mut server).collect());
    group.balance = upstreams.balance.clone();
    group.health = upstreams.health.clone();
    group.retries = upstreams.retries.clone();
    group.queue = upstreams.queue;
    group.sticky = upstreams.sticky.as_deref().map(Into::into);
    group
}

fn rate_rule(app: &str, limit: &phalanx_policy::RateLimit) -> RateRule {
    let phalanx_policy::Rate { count, period_ms } = limit.rate;
    let key = limit.key.iter().map(|part| match part {
        RateKey::Ip => RateKeyPart::Ip,
        RateKey::Header(name) => RateKeyPart::Header(name.as_str().into()),
        RateKey::Cookie(name) => RateKeyPart::Cookie(name.as_str().into()),
        RateKey::Method => RateKeyPart::Method,
        RateKey::Path => RateKeyPart::Path,
    });
    let mut rule = RateRule::new(app, &limit.name, Pace::new(count, period_ms, limit.burst))
        .about(limit.paths.iter().map(String::as_str), limit.methods.iter().map(String::as_str))
        .by(key);
    rule.rate = format!("{}, {} at once", limit.rate, limit.burst).into();
    rule.observes = limit.action == RateAction::Observe;
    rule.quota = limit.headers.then(|| Quota {
        requests: count,
        window_s: u32::try_from(period_ms.div_ceil(1000)).unwrap_or(u32::MAX),
    });
    rule.scope = match limit.scope {
        phalanx_policy::RateScope::Node => RateScope::Node,
        phalanx_policy::RateScope::Fleet => RateScope::Fleet { share_percent: limit.share_percent },
    };
    rule
}

/// What makes two apps' programs the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct ProgramKey {
    rules: RuleSource,
    extra_rules: Vec<PathBuf>,
    exclusions: String,
    paranoia: u8,
    observe: bool,
}

struct Programs<'a> {
    files: Files<'a>,
    collections: &'a Arc<Collections>,
    /// `None` for rules with faults, which are told once.
    known: HashMap<ProgramKey, Option<Arc<Program>>>,
    /// By program and classes; many apps have the same.
    scopes: HashMap<(*const Program, Classes), Option<Arc<Scope>>>,
    /// Those of the app whose turn it is, as SecLang; its routes have them as well.
    exclusions: String,
    warnings: Vec<Diagnostic>,
    errors: Vec<Diagnostic>,
}

impl Programs<'_> {
    /// The program of an app or route; `None` where it has none, or where its rules are faulty.
    fn of(
        &mut self,
        mode: policy::Mode,
        (rules, extra_rules): (&RuleSource, &[PathBuf]),
        paranoia: u8,
    ) -> Option<Arc<Program>> {
        if mode == policy::Mode::Off {
            return None;
        }
        let key = ProgramKey {
            rules: rules.clone(),
            extra_rules: extra_rules.to_vec(),
            exclusions: self.exclusions.clone(),
            paranoia,
            observe: mode == policy::Mode::Observe,
        };
        if let Some(program) = self.known.get(&key) {
            return program.clone();
        }
        let program = self.build(&key).map_err(|errors| self.errors.extend(errors)).ok();
        self.known.insert(key, program.clone());
        program
    }

    /// What an app or route is inspected by while its paranoia is raised.
    fn raised(
        &mut self,
        (app, mode): (&str, policy::Mode),
        rules: (&RuleSource, &[PathBuf]),
        (level, classes): (Option<u8>, Classes),
    ) -> Option<Arc<RaisedRules>> {
        let level = level?;
        let program = self.of(mode, rules, level)?;
        let scope = self.scope(Some(&program), classes);
        Some(Arc::new(RaisedRules { app: names::app(app), level, program, scope }))
    }

    /// What an app or route does with classes of a program's findings.
    fn scope(&mut self, program: Option<&Arc<Program>>, classes: Classes) -> Option<Arc<Scope>> {
        let program = program?;
        let scope = self.scopes.entry((Arc::as_ptr(program), classes));
        scope.or_insert_with(|| program.scope(&classes)).clone()
    }

    fn build(&mut self, key: &ProgramKey) -> Result<Arc<Program>, Vec<Diagnostic>> {
        let rule_engine = if key.observe { RuleEngine::DetectionOnly } else { RuleEngine::On };
        // Observing goes on after the first rule that would refuse, so that its record is whole.
        let options = LoadOptions {
            paranoia: Some(key.paranoia),
            rule_engine: Some(rule_engine),
            extra_before: vec![("exclusions of the policy".to_owned(), key.exclusions.clone())],
        };
        let mut loaded = match &key.rules {
            RuleSource::Baseline => load_baseline(self.files, &key.extra_rules, &options)?,
            RuleSource::Dirs(dirs) => {
                let all: Vec<PathBuf> = dirs.iter().chain(&key.extra_rules).cloned().collect();
                load_dirs_from(self.files, &all, &options)?
            }
        };
        self.warnings.append(&mut loaded.warnings);
        let options =
            CompileOptions { collections: Arc::clone(self.collections), ..CompileOptions::default() };
        Program::compile(&loaded.rules, &options).map(Arc::new)
    }
}

fn exempted(one: &Exemption) -> Exempted {
    let until_ms = |until: Expiry| u64::try_from(until.at_s).unwrap_or_default().saturating_mul(1_000);
    Exempted { networks: prefixes(&one.networks), until_ms: one.until.map_or(u64::MAX, until_ms) }
}

fn prefixes(list: &[phalanx_model::Prefix]) -> PrefixSet {
    list.iter().copied().collect()
}

#[cfg(test)]
mod tests {
    use phalanx_policy::{FileSet, parse_policy};

    use super::*;

    fn compiled(text: &str, networks: &str) -> Result<EdgePlan, Vec<Diagnostic>> {
        let (policy, _) = parse_policy("policy.toml", text).unwrap();
        let files = FileSet::new([("cdn.toml".to_owned(), networks.as_bytes().to_vec())]);
        EdgePlan::compile_from(Files::Set(&files), &policy, &Arc::default()).map(|compiled| compiled.plan)
    }

    fn app(client_address: &str) -> String {
        format!(
            "[[apps]]\nname = \"a\"\nupstream = \"http://127.0.0.1:1\"\nmode = \"off\"\n\
             trust_forwarded = [\"10.0.0.0/8\"]\nclient_address = {{ {client_address} }}\n"
        )
    }

    #[test]
    fn a_preset_trusts_its_networks_beside_the_apps_own() {
        let plan = compiled(&app("preset = \"cloudflare\", certificate = true"), "").unwrap();
        let app = &plan.apps()[0];
        let trusts = |ip: &str| app.trust_forwarded.contains(ip.parse().unwrap());
        assert!(
            trusts("10.1.1.1") && trusts("173.245.48.9") && trusts("2606:4700::1") && !trusts("192.0.2.1")
        );
        assert_eq!(app.client_address.field, AddressField::Named("cf-connecting-ip".into()));
        assert!(app.client_address.certified);
        assert!(plan.decide.forwarders.contains("173.245.48.9".parse().unwrap()), "never banned");
    }

    #[test]
    fn authorities_of_clients_come_from_the_files_of_the_policy() {
        let key = rcgen::KeyPair::generate().unwrap();
        let pem = rcgen::CertificateParams::new(vec![]).unwrap().self_signed(&key).unwrap().pem();
        let app = |name: &str, file: &str| {
            format!(
                "[[apps]]\nname = \"{name}\"\nhosts = [\"{name}.test\"]\nupstream = \"http://127.0.0.1:1\"\nmode = \"off\"\n\
                 client_certificate = {{ ca_file = \"{file}\" }}\n"
            )
        };
        let plan = compiled(&[app("a", "cdn.toml"), app("b", "cdn.toml")].concat(), &pem).unwrap();
        let rule = |host: &[u8]| &plan.asked_of_clients(host).unwrap().rule;
        assert!(Arc::ptr_eq(rule(b"a.test"), rule(b"b.test")));
        assert!(plan.asked_of_clients(b"c.test").is_none());
        for (file, text, expected) in [
            ("other.pem", pem.as_str(), "other.pem"),
            ("cdn.toml", "", "cdn.toml: there is no certificate in it"),
            ("cdn.toml", &pem.replacen('M', "?", 1), "cdn.toml:1: it is damaged"),
        ] {
            let faults = compiled(&app("a", file), text).unwrap_err();
            let told = faults[0].to_string();
            assert!(told.contains(expected) && told.contains("help: name the PEM file"), "{told}");
        }
    }

    #[test]
    fn a_file_of_networks_says_what_is_newer() {
        let text =
            |preset: &str| format!("cdn_networks = \"cdn.toml\"\n{}", app(&format!("preset = \"{preset}\"")));
        let file = "[cloudflare]\nnetworks = [\"192.0.2.0/24\"]\n[ours]\nfrom = \"forwarded\"\nnetworks = [\"198.51.100.1\"]\n";
        let plan = compiled(&text("cloudflare"), file).unwrap();
        let trusts = |ip: &str| plan.apps()[0].trust_forwarded.contains(ip.parse().unwrap());
        assert!(trusts("192.0.2.1") && !trusts("173.245.48.9"));
        let plan = compiled(&text("ours"), file).unwrap();
        assert_eq!(plan.apps()[0].client_address.field, AddressField::Forwarded);
        let faults = compiled(&text("cloudfront"), file).unwrap_err();
        assert!(faults[0].to_string().contains("whose networks no file knows"), "{}", faults[0]);
        assert!(compiled(&text("ours"), "[ours]\nnetworks = 1\n").is_err());
    }
}
