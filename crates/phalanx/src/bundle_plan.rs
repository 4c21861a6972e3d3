//! From a policy bundle to a plan: limits first, then text, then rules, and before it may be swapped in, requests that harm nobody.
//!
//! Flow in names: `Bundle` -> [`compile`] (limits, parse, compile) -> [`refuses_everything`] -> `PolicyKeeper::adopt`.
//!
//! INVARIANT: nothing here reads the disk, and nothing of the plan in force is touched.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use phalanx_edge::{AppPlan, EdgePlan};
use phalanx_fleet::Bundle;
use phalanx_inspect::{Collections, Outcome, Scratch, Transaction};
use phalanx_model::limits::{
    POLICY_APPS_MAX, POLICY_LINES_MAX, POLICY_PREFIXES_MAX, POLICY_PROGRAM_RULES_MAX, POLICY_ROUTES_MAX,
    POLICY_RULES_MAX,
};
use phalanx_policy::{Diagnostic, FileSet, Files, Mode, Policy, RuleSource, baseline};

use crate::plan::{Compiled, Written};
use crate::waf::exchange::{Request, connection};

/// Compiles a bundle within the limits of bundles, as a site reads it. The plan has the bundle's version.
pub(crate) fn compile(
    bundle: &Bundle,
    site: Option<&str>,
    collections: &Arc<Collections>,
) -> Result<Compiled, Vec<Diagnostic>> {
    let files = FileSet::new(bundle.files.iter().map(|(name, bytes)| (name.clone(), bytes.clone())));
    let entry = bundle.manifest.entry.as_str();
    let rules = check_size(&files, entry)?;
    let text = match files.get(entry).map(std::str::from_utf8) {
        Some(Ok(text)) => text,
        Some(Err(_)) => return Err(fault(entry, "the policy file is not UTF-8")),
        None => return Err(fault(entry, "the bundle has no such file")),
    };
    let (mut policy, mut warnings) = phalanx_policy::parse_policy_at(entry, text, site)?;
    policy.version = bundle.manifest.version;
    check_complexity(&policy, entry, rules)?;
    let compiled = EdgePlan::compile_from(Files::Set(&files), &policy, collections)?;
    warnings.extend(compiled.warnings);
    let mut plan = compiled.plan;
    plan.playbooks = crate::playbooks::read_all(Files::Set(&files), &policy.playbooks)?;
    let written = Written { entry: entry.to_owned(), files: Arc::new(files) };
    Ok(Compiled { plan, policy, warnings, written: Some(written) })
}

/// An app of `next` whose rules refuse every one of some requests that harm nobody, and did not before: the mark of a rule that catches
/// all. Its name.
///
/// That some of them are refused is no fault: an app may well take no forms. What is subtler is for a trial to show.
pub(crate) fn refuses_everything(next: &EdgePlan, before: &EdgePlan) -> Option<Arc<str>> {
    let refused = |app: &AppPlan| {
        let host = app.hosts.first().map_or("www.example.org", |host| host.trim_start_matches("*."));
        BENIGN.iter().all(|request| rejects(app, &request.replace("HOST", host)))
    };
    // Apps with the same rules are asked once.
    let mut known = HashMap::new();
    let mut caught = next.apps().iter().filter(|app| {
        let rules = (app.program.as_ref().map(Arc::as_ptr), app.scope.as_ref().map(Arc::as_ptr));
        let catches_all = *known.entry(rules).or_insert_with(|| refused(app));
        let same = |known: &&AppPlan| known.name == app.name;
        catches_all && !before.apps().iter().find(same).is_some_and(refused)
    });
    caught.next().map(|app| Arc::clone(&app.name))
}

fn rejects(app: &AppPlan, raw: &str) -> bool {
    let Some(program) = &app.program else { return false };
    let Ok(request) = Request::read(raw.as_bytes()) else { return false };
    let transaction = Transaction::new(Arc::clone(program), Box::<Scratch>::default(), connection(1, 0));
    let mut transaction = transaction.within(app.scope.as_ref());
    // Dropped before its end: what rules remember of clients is not written.
    transaction.request_head(&request.head) != Outcome::Pass
        || transaction.request_body(request.body, true) != Outcome::Pass
        || transaction.failure().is_some()
}

/// Whether the files are few and short enough; how many rules they hold.
fn check_size(files: &FileSet, entry: &str) -> Result<usize, Vec<Diagnostic>> {
    let (mut lines, mut rules) = (0, 0);
    for (_, bytes) in files.iter() {
        for line in bytes.split(|&byte| byte == b'\n') {
            lines += 1;
            let start = line.trim_ascii_start().get(..3).unwrap_or_default();
            rules += usize::from(start.eq_ignore_ascii_case(b"sec"));
        }
    }
    if lines > POLICY_LINES_MAX {
        let message = format!("the bundle's files have {lines} lines; {POLICY_LINES_MAX} are possible");
        return Err(vec![
            Diagnostic::error(entry, 0, message).with_help("long lists of addresses belong into a blocklist"),
        ]);
    }
    if rules > POLICY_RULES_MAX {
        let message = format!("the bundle has {rules} rules; {POLICY_RULES_MAX} are possible");
        return Err(fault(entry, &message));
    }
    Ok(rules)
}

fn check_complexity(policy: &Policy, entry: &str, rules: usize) -> Result<(), Vec<Diagnostic>> {
    if policy.apps.len() > POLICY_APPS_MAX {
        let message = format!("the policy has {} apps; {POLICY_APPS_MAX} are possible", policy.apps.len());
        return Err(fault(entry, &message));
    }
    let routes: usize = policy.apps.iter().map(|app| app.routes.len()).sum();
    if routes > POLICY_ROUTES_MAX {
        let message = format!("the policy has {routes} routes; {POLICY_ROUTES_MAX} are possible");
        return Err(fault(entry, &message));
    }
    let of_apps: usize = policy.apps.iter().map(|app| app.trust_forwarded.len()).sum();
    let of_exemptions: usize = policy.exemptions.iter().map(|one| one.networks.len()).sum();
    let prefixes = policy.allow.len() + policy.operator_networks.len() + of_exemptions + of_apps;
    if prefixes > POLICY_PREFIXES_MAX {
        let message =
            format!("the policy has {prefixes} addresses and ranges; {POLICY_PREFIXES_MAX} are possible");
        return Err(fault(entry, &message));
    }
    let of_apps = policy.apps.iter().flat_map(|app| {
        let levels = std::iter::once(app.paranoia).chain(app.raise_paranoia);
        levels.map(|level| (app.mode, &app.rules, &app.extra_rules, level))
    });
    let own = policy.apps.iter().flat_map(|app| &app.routes).filter_map(|route| route.own.as_ref());
    let of_routes = own.flat_map(|own| {
        let levels = std::iter::once(own.paranoia).chain(own.raise_paranoia);
        levels.map(|level| (own.mode, &own.rules, &own.extra_rules, level))
    });
    let programs: HashSet<_> = of_apps
        .chain(of_routes)
        .filter(|(mode, ..)| *mode != Mode::Off)
        .map(|(mode, rules, extra, paranoia)| (rules, extra, paranoia, mode == Mode::Observe))
        .collect();
    let own = |rules: &RuleSource| match rules {
        RuleSource::Baseline => baseline().iter().map(|(_, text)| text.matches("SecRule").count()).sum(),
        RuleSource::Dirs(_) => 0,
    };
    // Before anything is compiled, so at most what it may come to.
    let total: usize = programs.iter().map(|(source, ..)| own(source) + rules).sum();
    if total > POLICY_PROGRAM_RULES_MAX {
        let message = format!(
            "the policy has {} different programs, of {total} rules together; {POLICY_PROGRAM_RULES_MAX} are possible",
            programs.len()
        );
        return Err(vec![
            Diagnostic::error(entry, 0, message)
                .with_help("apps with the same rules and paranoia level share one"),
        ]);
    }
    Ok(())
}

fn fault(file: &str, message: &str) -> Vec<Diagnostic> {
    vec![Diagnostic::error(file, 0, message)]
}

/// Requests that harm nobody: a page, a picture, a search, a form, a call with JSON.
const BENIGN: [&str; 5] = [
    "GET / HTTP/1.1\r\nHost: HOST\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
     Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-GB,en;q=0.5\r\n\
     Accept-Encoding: gzip, deflate, br\r\nConnection: keep-alive\r\n\r\n",
    "GET /images/logo.png HTTP/1.1\r\nHost: HOST\r\nUser-Agent: Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 \
     (KHTML, like Gecko) Version/18.5 Safari/605.1.15\r\nAccept: image/avif,image/webp,*/*\r\nReferer: http://HOST/\r\n\r\n",
    "GET /search?q=blue+shoes&page=2 HTTP/1.1\r\nHost: HOST\r\nUser-Agent: Mozilla/5.0 (Windows NT 10.0; Win64; x64) \
     AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36\r\nAccept: text/html,*/*;q=0.8\r\n\r\n",
    "POST /contact HTTP/1.1\r\nHost: HOST\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
     Accept: text/html,*/*;q=0.8\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 28\r\n\r\n\
     name=Anna&message=Good+day+!",
    "POST /api/orders HTTP/1.1\r\nHost: HOST\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\
     Accept: application/json\r\nContent-Type: application/json\r\nContent-Length: 27\r\n\r\n{\"article\":12,\"quantity\":2}",
];
