//! Whether an app that somebody names is one that the node knows.

use phalanx_control::api::TrafficSeen;
use phalanx_record::escape::for_terminal;

use super::print;
use crate::client::Client;

/// Warns of apps of which no request is kept: a name that is misspelt gives empty answers, which look like peace. Policy may have an app that
/// nobody asked for anything yet, so it is no error; nor is it one when the node does not tell.
pub(super) fn doubt<'a>(client: &Client, named: impl IntoIterator<Item = &'a String>) {
    let mut named = named.into_iter().peekable();
    if named.peek().is_none() {
        return;
    }
    let by_app = [("from_ms", "0"), ("by", "app"), ("points", "1"), ("fleet", "true")];
    let query = print::query(&by_app.map(|(name, value)| (name, Some(value.to_owned()))));
    let seen = client.get(&format!("traffic{query}")).ok();
    let Some(seen) = seen.and_then(|seen| serde_json::from_value::<TrafficSeen>(seen).ok()) else { return };
    // Of many apps the smallest are counted together.
    if seen.traffic.others.total > 0 {
        return;
    }
    let known: Vec<&str> = seen.traffic.series.iter().map(|one| one.key.as_str()).collect();
    for app in named.filter(|app| !known.contains(&app.as_str())) {
        eprintln!("phalanx: warning: {}", for_terminal(&warning(app, &known)));
    }
}

fn warning(app: &str, known: &[&str]) -> String {
    match known {
        [] => format!("no request for app `{app}` is kept, nor for any other"),
        _ => {
            let shown: Vec<String> =
                known.iter().take(SHOWN_MAX).map(|known| format!("`{}`", print::short(known, 40))).collect();
            let more = if known.len() > SHOWN_MAX { ", ..." } else { "" };
            format!(
                "no request for app `{}` is kept; did you mean one of {}{more}?",
                print::short(app, 40),
                shown.join(", ")
            )
        }
    }
}

/// Apps that are named in a warning.
const SHOWN_MAX: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_misspells_an_app_is_told_which_there_are() {
        assert_eq!(
            warning("shopp", &["shop", "blog"]),
            "no request for app `shopp` is kept; did you mean one of `shop`, `blog`?"
        );
        assert_eq!(warning("shop", &[]), "no request for app `shop` is kept, nor for any other");
    }
}
