//! Paths as routes meet them: whatever a client writes, a route that is met is met in both readings, and none is met by `..`.
#![no_main]

use std::sync::{Arc, LazyLock};

use libfuzzer_sys::fuzz_target;
use phalanx_edge::{EdgePlan, request_head};
use phalanx_policy::parse_policy;

static PLAN: LazyLock<EdgePlan> = LazyLock::new(|| {
    let routes = ["/admin", "/admin/", "/public", "/public/a/b", "/a b"].map(|path| format!("[[apps.routes]]\npath = '{path}'\n"));
    let patterns = [r"^/public/[^/]+\.php$", "^/(a|admin)/[0-9]+", "b$"].map(|pattern| format!("[[apps.routes]]\nname = '{pattern}'\npath_pattern = '{pattern}'\n"));
    let app = "[[apps]]\nname = 'a'\nmode = 'off'\nupstream = 'http://127.0.0.1:1'\n";
    let (policy, _) = parse_policy("fuzz.toml", &(app.to_owned() + &patterns.concat() + &routes.concat())).expect("a policy");
    EdgePlan::compile(&policy, &Arc::default()).expect("a plan").plan
});

fuzz_target!(|data: &[u8]| {
    let Ok(target) = std::str::from_utf8(data) else { return };
    let Ok(head) = request_head("GET", "a.test", target, &[]) else { return };
    let met = PLAN.explain(&head, false);
    assert!(!met.path.split('/').any(|segment| segment == "." || segment == ".."));
    let fits = met.tried.iter().find(|(_, against)| against.is_none()).map(|(route, _)| route);
    if !met.ambiguous {
        assert_eq!(fits, met.route.as_ref());
        // To some expressions a line ends there.
        assert!(!met.path.contains(['\n', '\0']));
        if let Some(route) = &met.route {
            // A pattern's route has the pattern for a name.
            assert!(met.path.starts_with(route.as_str()) || !route.starts_with('/'));

        }
    }
});
