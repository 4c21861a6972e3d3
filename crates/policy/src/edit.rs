//! Additions to a policy's text that somebody else formats: text goes in at one place, all other bytes stay.
//!
//! INVARIANT: what is written says what the file said before and the addition, and nothing else: both are read and compared.

use toml::{Table, Value};

/// The policy with these exclusions at the end of what belongs to an app.
///
/// # Errors
/// A sentence that says what is in the way, and what to do.
pub fn with_exclusions(policy: &str, app: &str, exclusions: &str) -> Result<String, String> {
    let before: Table = policy.parse().map_err(|e| format!("this is no TOML: {e}"))?;
    let added: Table = exclusions.parse().map_err(|e| format!("the exclusions are no TOML: {e}"))?;
    let by_hand = "paste the exclusions by hand";
    let apps = before.get("apps").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let named = |one: &Value| one.get("name").and_then(Value::as_str) == Some(app);
    let Some(place) = apps.iter().position(named) else {
        return Err(format!("no `[[apps]]` has the name `{app}`; is this the policy that the node runs?"));
    };
    let expected = expected(&before, place, &added).ok_or(by_hand)?;
    let newline = if policy.contains("\r\n") { "\r\n" } else { "\n" };
    let ends = ends_of_apps(policy);
    let at =
        *ends.get(place).ok_or_else(|| format!("app `{app}` does not begin with `[[apps]]`; {by_hand}"))?;
    let (head, tail) = policy.split_at_checked(at).unwrap_or((policy, ""));
    let gap = if head.ends_with('\n') { newline.to_owned() } else { newline.repeat(2) };
    let edited = format!("{head}{gap}{}{tail}", exclusions.replace('\n', newline));
    match edited.parse::<Table>() {
        Ok(found) if found == expected => Ok(edited),
        _ => {
            Err(format!("the exclusions of app `{app}` cannot be added to as the file is written; {by_hand}"))
        }
    }
}

fn expected(before: &Table, place: usize, added: &Table) -> Option<Table> {
    let added = added.get("apps")?.get("exclusions")?.as_array()?;
    let mut after = before.clone();
    let app = after.get_mut("apps")?.as_array_mut()?.get_mut(place)?.as_table_mut()?;
    let exclusions = app.entry("exclusions").or_insert_with(|| Value::Array(Vec::new()));
    exclusions.as_array_mut()?.extend(added.iter().cloned());
    Some(after)
}

/// Where what belongs to each `[[apps]]` ends, before the comments above what follows.
fn ends_of_apps(policy: &str) -> Vec<usize> {
    let mut ends: Vec<usize> = Vec::new();
    let (mut at, mut last, mut inside) = (0, 0, false);
    for line in policy.split_inclusive('\n') {
        at += line.len();
        let said = line.trim();
        let header = said.starts_with('[').then(|| said.trim_start_matches('[').trim_start());
        // What looks like a header and is a line of an array or a long string makes the texts differ, and nothing is written.
        if let Some(header) = header {
            let name = header.split([']', '.']).next().unwrap_or_default().trim();
            let is_app = said.starts_with("[[") && header.starts_with("apps") && is_whole(header);
            if inside && (is_app || name != "apps") {
                ends.push(last);
                inside = false;
            }
            inside |= is_app;
        }
        if !said.is_empty() && !said.starts_with('#') {
            last = at;
        }
    }
    if inside {
        ends.push(last);
    }
    ends
}

/// Whether a header that begins with `apps` ends there.
fn is_whole(header: &str) -> bool {
    header.strip_prefix("apps").is_some_and(|rest| rest.trim_start().starts_with(']'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADDED: &str = "[[apps.exclusions]]\nrules = [1]\n";

    #[test]
    fn exclusions_go_to_the_end_of_their_app_and_nothing_else_changes() {
        for (policy, expected) in [
            (
                "# a\n[[apps]]\nname = \"a\"   # kept\n\n# about b\n[[apps]]\nname = 'b'\n",
                "# a\n[[apps]]\nname = \"a\"   # kept\n\n[[apps.exclusions]]\nrules = [1]\n\n# about b\n[[apps]]\nname = 'b'\n",
            ),
            (
                "[[apps]]\nname = 'b'\n[[apps]]\nname = 'a'\n[[apps.routes]]\npath = '/x'\n[strikes]\nmax = 1\n",
                "[[apps]]\nname = 'b'\n[[apps]]\nname = 'a'\n[[apps.routes]]\npath = '/x'\n\n[[apps.exclusions]]\nrules = [1]\n[strikes]\nmax = 1\n",
            ),
            (
                "[[ apps ]]\nname = 'a'\n[[apps.exclusions]]\nrules = [2]",
                "[[ apps ]]\nname = 'a'\n[[apps.exclusions]]\nrules = [2]\n\n[[apps.exclusions]]\nrules = [1]\n",
            ),
            (
                "[[apps]]\r\nname = 'a'\r\n",
                "[[apps]]\r\nname = 'a'\r\n\r\n[[apps.exclusions]]\r\nrules = [1]\r\n",
            ),
        ] {
            assert_eq!(with_exclusions(policy, "a", ADDED).unwrap(), expected);
        }
    }

    #[test]
    fn what_cannot_be_added_to_is_left_alone_with_the_reason() {
        for (policy, told) in [
            ("[[apps]]\nname = 'b'\n", "no `[[apps]]` has the name `a`"),
            ("apps = [{ name = 'a' }]\n", "does not begin with `[[apps]]`"),
            ("[[apps]]\nname = 'a'\nexclusions = [{ rules = [2] }]\n", "by hand"),
            ("[[apps]]\nname = 'b'\nx = '''\n[[apps]]\n'''\n[[apps]]\nname = 'a'\n", "by hand"),
            ("[[apps]\n", "no TOML"),
        ] {
            let fault = with_exclusions(policy, "a", ADDED).unwrap_err();
            assert!(fault.contains(told), "{fault}");
        }
    }
}
