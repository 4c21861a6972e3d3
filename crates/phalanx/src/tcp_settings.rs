//! What the settings say of listeners whose connections are carried to an app as they are.

use std::path::Path;

use phalanx_edge::{EdgePlan, TcpListen};
use phalanx_policy::Diagnostic;
use phalanx_policy::toml_text::{At, Text};
use phalanx_policy::units::duration_ms;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::settings::{address, proxied};

/// One such listener, and where the settings name its app.
#[derive(Debug, Clone)]
pub(crate) struct TcpSettings {
    pub(crate) listen: TcpListen,
    line: u32,
}

/// A listener whose connections are carried as they are.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawTcpListen {
    /// Its address with port.
    address: At<String>,
    /// The app, by its name; the policy says `tcp = true` of it.
    app: At<String>,
    /// Networks of balancers: nobody else may connect, and each connection begins with a PROXY header.
    proxy_protocol: Option<At<Vec<At<String>>>>,
    /// Silence of both sides that ends a connection, 1 s to 30 days. `tunnel_idle_time` of `[limits]` if not given.
    idle: Option<At<String>>,
}

/// Checks what was written.
pub(crate) fn check(
    text: &Text<'_>,
    written: &[RawTcpListen],
    faults: &mut Vec<Diagnostic>,
) -> Vec<TcpSettings> {
    written.iter().filter_map(|raw| listener(text, raw, faults)).collect()
}

fn listener(text: &Text<'_>, raw: &RawTcpListen, faults: &mut Vec<Diagnostic>) -> Option<TcpSettings> {
    let idle_ms = raw.idle.as_ref().and_then(|written| match duration_ms(written) {
        Ok(ms) if (1_000..=IDLE_MAX_MS).contains(&ms) => Some(ms),
        Ok(_) => {
            faults.push(text.error_at(&written.span, "`idle` goes from 1s to 30d"));
            None
        }
        Err(fault) => {
            faults.push(text.error_at(&written.span, fault));
            None
        }
    });
    Some(TcpSettings {
        listen: TcpListen {
            address: address(text, &raw.address, faults)?,
            app: raw.app.value.clone(),
            proxied: proxied(text, raw.proxy_protocol.as_ref(), faults),
            idle_ms,
        },
        line: text.line_of(raw.app.span.start),
    })
}

/// Listeners whose app a policy does not have, as faults of the settings file.
pub(crate) fn without_app(file: &Path, listeners: &[TcpSettings], plan: &EdgePlan) -> Vec<Diagnostic> {
    let fault = |one: &TcpSettings| {
        let fault = Diagnostic::error(file.display().to_string(), one.line, missing(one));
        fault.with_help(format!(
            "add `[[apps]]` with `name = \"{}\"`, `tcp = true` and `upstream = \"tcp://10.0.0.7:5432\"` to the policy",
            one.listen.app
        ))
    };
    listeners.iter().filter(|one| !plan.carries(&one.listen.app)).map(fault).collect()
}

/// The same, as a running node tells it: its fleet's policy may be another than that of its own file.
pub(crate) fn degraded(listeners: &[TcpSettings], plan: &EdgePlan) -> Vec<String> {
    let unserved = listeners.iter().filter(|one| !plan.carries(&one.listen.app));
    unserved
        .map(|one| format!("connections to {} are closed at once: {}", one.listen.address, missing(one)))
        .collect()
}

fn missing(one: &TcpSettings) -> String {
    format!("the policy has no app `{}` with `tcp = true`", one.listen.app)
}

/// As long as a connection of a database's pool may well say nothing.
const IDLE_MAX_MS: u64 = 30 * 24 * 60 * 60 * 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::tests::read_with;

    #[test]
    fn listeners_for_tcp_name_an_app() {
        let listen = |more: &str| format!("[[listen.tcp]]\naddress = \"[::1]:5432\"\n{more}\n");
        let (settings, faults) =
            read_with(&listen("app = \"db\"\nidle = \"8h\"\nproxy_protocol = [\"10.0.0.0/8\"]"));
        assert!(faults.is_empty(), "{faults:?}");
        let settings = settings.unwrap();
        // Nothing was said of HTTP, so nobody listens for it.
        assert_eq!(settings.listen, []);
        let [one] = settings.tcp.as_slice() else { panic!("one") };
        assert_eq!((one.listen.app.as_str(), one.listen.idle_ms, one.line), ("db", Some(28_800_000), 6));
        assert!(one.listen.proxied.as_ref().is_some_and(|from| from.contains("10.1.1.1".parse().unwrap())));
        for (more, fault) in [
            ("", "error: 4: missing field `app`"),
            ("app = \"db\"\nidle = \"0s\"", "error: 7: `idle` goes from 1s to 30d"),
            ("app = \"db\"\nidle = \"soon\"", "error: 7: "),
            ("app = \"db\"\nproxy_protocol = [\"0.0.0.0/0\"]", "error: 7: `0.0.0.0/0` holds every address"),
            ("app = \"db\"\nhost = \"a\"", "error: 7: unknown key `host`"),
        ] {
            let (_, faults) = read_with(&listen(more));
            assert!(faults.iter().any(|found| found.starts_with(fault)), "{more}: {faults:?}");
        }
    }

    #[test]
    fn a_listener_without_its_app_is_a_fault_at_its_line() {
        let text = "[[apps]]\nname = \"db\"\ntcp = true\nupstream = \"tcp://10.0.0.7:5432\"\n\
                    [[apps]]\nname = \"shop\"\nupstream = \"http://10.0.0.8\"\nmode = \"off\"\n";
        let (policy, _) = phalanx_policy::parse_policy("policy.toml", text).unwrap();
        let plan = EdgePlan::compile(&policy, &Default::default()).unwrap().plan;
        for (app, serves) in [("db", true), ("shop", false), ("cache", false)] {
            let (settings, _) =
                read_with(&format!("[[listen.tcp]]\naddress = \"127.0.0.1:1\"\napp = \"{app}\"\n"));
            let listeners = settings.unwrap().tcp;
            let faults = without_app(Path::new("phalanx.toml"), &listeners, &plan);
            assert_eq!(faults.is_empty(), serves, "{app}");
            assert_eq!(degraded(&listeners, &plan).is_empty(), serves, "{app}");
            for fault in faults {
                let expected = format!(
                    "error: phalanx.toml:6: the policy has no app `{app}` with `tcp = true`\n  help: add `[[apps]]`"
                );
                assert!(fault.to_string().starts_with(&expected), "{fault}");
            }
        }
    }
}
