//! Faults that are no mistakes, and the good settings that each stands in.

/// A fault in otherwise good settings.
pub(super) struct Fault {
    pub(super) file: &'static str,
    /// The line in whose place it stands begins so.
    pub(super) at: &'static str,
    pub(super) says: &'static str,
    /// What is to be said of it.
    pub(super) told: &'static str,
}

pub(super) const SETTINGS: &str = "policy = \"policy.toml\"\n[listen]\naddress = [\"127.0.0.1:8080\"]\n[fleet]\nid = \"shop\"\nurl = \"nats://10.0.0.5:4222\"\n";
pub(super) const POLICY: &str = r#"version = 1
allow = []
operator_networks = ["127.0.0.0/8"]
[strikes]
[detection]
[[apps]]
name = "shop"
upstream = "http://127.0.0.1:3000"
extra_rules = ["own.conf"]
mode = "block"
[apps.classes]
[apps.limits]
[[apps.rate_limits]]
name = "all"
key = "ip"
paths = ["/search", "/shop"]
rate = "60/m"
[apps.response_headers.set]
[[apps.routes]]
path = "/shop"
"#;
pub(super) const RULES: &str = "SecRule ARGS:note \"@contains forbidden\" \"id:1001,phase:2,deny\"\n";

/// What a rule file may include.
pub(super) const INNER: &str = "# More.\nSecRuleEngine DetectionOnly\n";

/// What is said at one site.
macro_rules! site {
    ($says:literal, $told:literal) => {
        policy("path =", concat!("path = \"/shop\"\n[sites.fra.defaults]\n", $says), $told)
    };
}

/// What is excluded, for ever.
macro_rules! exclusion {
    ($says:literal, $told:literal) => {
        policy(
            "[apps.limits]",
            concat!(
                "[apps.limits]\n[[apps.exclusions]]\nowner = \"ann\"\nreason = \"ticket\"\nuntil = \"never\"\n",
                $says
            ),
            $told,
        )
    };
}

/// `{soon}` is a day within the year.
pub(super) const FAULTS: [Fault; 101] = [
    policy("allow", "allow = [\"198.0.0.0/7\"]", "33554432 addresses (198.0.0.0/7) are never refused"),
    policy("allow", "allow = [\"0.0.0.0/0\"]", "holds every address: nothing is refused any more"),
    policy("allow", "allow = [\"2001:db8::/20\"]", "all addresses of 2001::/20 are never refused"),
    policy("operator_networks", "operator_networks = [\"198.51.0.0/15\"]", "are never banned"),
    policy("[strikes]", "[strikes]\ncount = 5\nwindow = \"2s\"", "most scanners are slower"),
    policy("[detection]", "[detection]\nmode = \"off\"", "seen by nobody"),
    policy("mode", "mode = \"observe\"", "attacks on `shop` are recorded and passed on"),
    policy("mode", "mode = \"off\"", "no rule looks at requests to `shop`"),
    policy("mode", "on_error = \"allow\"", "is passed on uninspected"),
    policy(
        "[apps.classes]",
        "[apps.classes]\ndetection = \"observe\"",
        "rules that look for them do not block",
    ),
    policy("[apps.classes]", "[apps.classes]\ndetection = \"off\"", "rules that look for them do not block"),
    policy("[apps.limits]", "[apps.limits]\nbody_held = \"4 KiB\"", "behind the first 4 KiB of a body"),
    policy("mode", "trust_forwarded = [\"0.0.0.0/0\"]", "any client can claim any address"),
    policy("mode", "trust_forwarded = [\"192.0.0.0/4\"]", "bans and limits are theirs to avoid"),
    policy("mode", "allow_networks = [\"0.0.0.0/1\", \"203.0.113.0/24\"]", "keeps hardly anybody out"),
    policy("mode", "allow_networks = [\"10.1.0.0/16\"]\ndeny_networks = [\"10.0.0.0/8\"]", "nobody may ask"),
    policy("upstream", "upstream = \"http://203.0.113.9:80\"", "it is a public address, without TLS"),
    policy("upstream", "upstream = \"https://203.0.113.9\"", "past all that protects it here"),
    policy(
        "mode",
        "accounts = { logins = [{ path = \"/enter\" }] }",
        "tried at /enter as fast as it answers",
    ),
    policy("rate", "rate = \"60/m\"\naction = \"observe\"", "`all` refuses nobody"),
    policy("key", "key = \"header:x-key\"", "clients choose what they are counted by"),
    policy(
        "rate",
        "rate = \"60/m\"\n[[apps.rate_limits]]\nname = \"search\"\nkey = \"ip\"\npaths = [\"/search\"]\nrate = \"100/m\"",
        "`search` is never reached: `all` admits no more",
    ),
    policy(
        "[apps.response_headers.set]",
        "[apps.response_headers.set]\nAccess-Control-Allow-Origin = \"*\"\nAccess-Control-Allow-Credentials = \"true\"",
        "pages of any site may ask in the name of whoever is logged in",
    ),
    policy("path =", "path = \"/wp-admin\"", "/wp-admin is for those who run the app, and open to everybody"),
    policy(
        "path =",
        "path = \"/shop\"\nmode = \"off\"\nheaders = { X-Internal = true }",
        "chooses less protection (`mode`)",
    ),
    policy("path =", "path = \"/\"\nmode = \"observe\"", "the route takes all requests"),
    policy(
        "path =",
        "path = \"/shop\"\nredirect = { to = \"http://shop.example{path}\" }",
        "a place without TLS",
    ),
    policy(
        "[apps.limits]",
        "[apps.limits]\n[[apps.exclusions]]\nrules = [8512000]\nowner = \"ann\"\nreason = \"ticket\"\nuntil = \"never\"",
        "no request is looked at by these rules any more",
    ),
    policy(
        "[apps.limits]",
        "[apps.limits]\n[[apps.exclusions]]\nrules = [8512000]\ntarget = \"ARGS\"\nowner = \"ann\"\nreason = \"ticket\"\nuntil = \"never\"",
        "these rules look at no argument any more",
    ),
    policy(
        "upstream",
        "upstream = \"https://10.0.0.9\"\nupstream_tls = { verify = false }",
        "whoever is between the node and the upstream can read and change everything",
    ),
    policy(
        "[apps.limits]",
        "[apps.limits]\n[[apps.exclusions]]\nrules = [8512000]\ntarget = \"ARGS:note\"\npath = \"/shop\"\nowner = \"ann\"\nreason = \"ticket\"\nuntil = 2024-01-31",
        "an exclusion of app `shop` has ended",
    ),
    rules("SecRuleEngine DetectionOnly", "rules refuse nothing any more"),
    rules("SecRequestBodyAccess Off", "no rule sees what is sent in a body"),
    rules("SecRuleRemoveById 8510000-8519999", "rules 8510000 to 8519999 are removed"),
    rules("SecRuleRemoveByTag \"phalanx/attack\"", "all rules with the tag `phalanx/attack` are removed"),
    rules("SecRuleUpdateTargetByTag \"phalanx/attack\" \"!ARGS\"", "blind for all of ARGS"),
    rules(
        "SecRule REQUEST_HEADERS:User-Agent \"@contains monitor\" \"id:1002,phase:1,pass,nolog,ctl:ruleEngine=Off\"",
        "all rules are off for whoever sends what the rule looks for",
    ),
    rules("SecAction \"id:1002,phase:1,nolog,allow\"", "no later rule looks for all requests"),
    site!("on_error = \"allow\"", "is passed on uninspected, at `fra`"),
    site!("trust_forwarded = [\"0.0.0.0/0\"]", "any client can claim any address, at `fra`"),
    site!(
        "limits = { body_held = \"4 KiB\" }",
        "behind the first 4 KiB of a body is inspected by nobody, at `fra`"
    ),
    exclusion!(
        "tags = [\"phalanx/attack/sql-injection\"]\ntarget = \"REQUEST_HEADERS\"\npath = \"/shop\"",
        "blind for all of REQUEST_HEADERS"
    ),
    exclusion!("rules = [8512000]\ntarget = \"REQUEST_BODY\"", "blind for all of REQUEST_BODY"),
    exclusion!("rules = [8512000]\npath = \"/\"", "no request is looked at by these rules any more"),
    exclusion!(
        "rules = [8512000]\ntarget = \"ARGS\"\npath = \"/\"",
        "these rules look at no argument any more"
    ),
    exclusion!(
        "tags = [\"phalanx\"]\ntarget = \"ARGS:note\"",
        "the tag `phalanx` is of attacks of many kinds"
    ),
    exclusion!(
        "rules = [8512001]\ntarget = \"ARGS:note\"\npath = \"/shop\"",
        "no rule of this app has the id 8512001"
    ),
    exclusion!(
        "tags = [\"phalanx/attack/sql-injektion\"]\ntarget = \"ARGS:note\"\npath = \"/shop\"",
        "no rule of this app has the tag `phalanx/attack/sql-injektion`"
    ),
    exclusion!(
        "rules = [8512000]\ntarget = \"ARGS:note\"\npath = \"/shop\"",
        "nobody is asked within a year"
    ),
    policy(
        "[apps.limits]",
        "[apps.limits]\n[[apps.exclusions]]\nrules = [8512000]\ntarget = \"ARGS:note\"\npath = \"/shop\"\nowner = \"ann\"\nreason = \"ticket\"\nuntil = 9999-12-31",
        "nobody is asked within a year",
    ),
    policy(
        "[apps.limits]",
        "[apps.limits]\n[[apps.exclusions]]\nrules = [8512000]\ntarget = \"ARGS:note\"\nowner = \"ann\"\nreason = \"ticket 7: notes at /shop/notes quote markup\"\nuntil = {soon}",
        "the reason is about /shop/notes",
    ),
    policy(
        "[apps.limits]",
        "[apps.limits]\n[[apps.exclusions]]\nrules = [8512000]\ntarget = \"ARGS:note\"\npath = \"/shop\"\nowner = \"ann\"\nreason = \"ticket\"\nuntil = {soon}\n[[apps.exclusions]]\nrules = [8512000]\ntarget = \"ARGS:note\"\npath = \"/shop\"\nowner = \"bob\"\nreason = \"another ticket\"\nuntil = {soon}",
        "is the same as the one in line",
    ),
    policy(
        "[apps.limits]",
        "[apps.limits]\n[[apps.exclusions]]\nrules = [8512000]\ntarget = \"ARGS:note\"\npath = \"/shop\"\nowner = \"ann\"\nreason = \"ticket\"\nuntil = {soon}\n[[apps.exclusions]]\nrules = [8512000]\ntarget = \"ARGS:note\"\npath = \"/shop/basket\"\nmethods = [\"POST\"]\nowner = \"bob\"\nreason = \"another ticket\"\nuntil = {soon}",
        "is within the one in line",
    ),
    rules("SecAction \"id:1002,phase:1,deny\"", "every request is refused"),
    rules("SecRule REMOTE_ADDR \"@unconditionalMatch\" \"id:1002,phase:1,deny\"", "every request is refused"),
    rules(
        "SecAction \"id:1002,phase:2,pass,nolog,skipAfter:END\"\nSecRule ARGS:note \"@contains forbidden\" \"id:1001,phase:2,deny\"\nSecMarker END",
        "all skip it from line 1 on",
    ),
    rules(
        "SecRule ARGS:note \"@contains forbidden\" \"id:1001,phase:2,deny\"\nSecRule ARGS:note \"@contains forbidden\" \"id:1002,phase:2,deny,msg:'again'\"",
        "the one in line 1 refuses all that it would meet",
    ),
    rules(
        "SecRule ARGS:note \"@contains x\" \"id:1001,phase:2,deny\"\nSecRule ARGS:note \"@contains xy\" \"id:1002,phase:2,deny\"",
        "the one in line 1 refuses all that it would meet",
    ),
    rules(
        "SecRule ARGS:note \"@contains x\" \"id:1001,phase:2,pass,nolog,setvar:tx.a=1\"\nSecRule ARGS:note \"@contains x\" \"id:1002,phase:2,pass,nolog,setvar:tx.a=1\"",
        "the same as the one in line 1",
    ),
    rules(
        "SecRule ARGS:note \"@contains x\" \"id:1001,phase:2,deny\"\nSecRuleRemoveById 1001",
        "rule 1001 of line 1 is taken out again",
    ),
    policy("path =", "path = \"/shop\"\nmode = \"off\"", "no rule looks at requests to /shop"),
    policy("path =", "path = \"/shop\"\nmode = \"observe\"", "attacks on /shop are recorded and passed on"),
    policy(
        "mode",
        "template = \"wordpress\"",
        "work at /wp-admin and /wp-login.php, which is open to everybody",
    ),
    policy("mode", "hosts = [\"grafana.example\"]", "grafana.example is for those who run things"),
    policy("path =", "path = \"/sign-in\"", "passwords may be tried at /sign-in"),
    settings("address", "address = [\"0.0.0.0:8080\"]", "there is no listener with TLS"),
    settings("url", "url = \"nats://203.0.113.5:4222\"", "over 203.0.113.5:4222 can be read on its way"),
    settings("[fleet]", "[sandbox]\nfiles = false\n[fleet]", "may touch all that its user may"),
    policy(
        "allow",
        "allow = [\"0.0.0.0/2\", \"64.0.0.0/2\", \"128.0.0.0/1\"]",
        "2147483648 addresses (128.0.0.0/1) are never refused",
    ),
    policy(
        "mode",
        "trust_forwarded = [\"::/0\"]",
        "`::/0` holds every address: any client can claim any address",
    ),
    policy("mode", "trust_forwarded = [\"2000::/3\"]", "all addresses of 2000::/3 can claim any address"),
    policy(
        "path =",
        "path = \"/shop\"\nallow_networks = [\"0.0.0.0/2\", \"64.0.0.0/2\", \"10.0.0.0/8\"]",
        "keeps hardly anybody out",
    ),
    policy(
        "path =",
        "path = \"/shop\"\nclasses = { detection = \"observe\" }",
        "rules that look for them do not block",
    ),
    policy("path =", "path = \"/shop\"\non_error = \"allow\"", "is passed on uninspected"),
    policy(
        "path =",
        "path = \"/shop\"\nlimits = { body_held = \"1 KiB\" }",
        "behind the first 1 KiB of a body",
    ),
    policy(
        "path =",
        "path = \"/shop\"\nupstream = \"http://203.0.113.9\"",
        "it is a public address, without TLS",
    ),
    policy(
        "path =",
        "path = \"/shop\"\n[[apps.routes]]\npath_pattern = \"^/\"\nmode = \"off\"",
        "the route takes all requests",
    ),
    policy(
        "path =",
        "path = \"/shop\"\n[[apps.routes]]\nsuffix = \".php\"\nmode = \"off\"",
        "no rule looks at requests to paths that end with `.php`",
    ),
    policy(
        "path =",
        "path = \"/shop\"\n[[apps.routes]]\npath_pattern = \".*\"\n[[apps.routes]]\nsuffix = \".bak\"\nreply = { status = 404 }",
        "no request meets this route",
    ),
    policy(
        "path =",
        "path_pattern = \"^/(?:admin|manager)/\"",
        "is for those who run the app, and open to everybody",
    ),
    policy(
        "path =",
        "exact = \"/admin\"\nallow_networks = [\"10.0.0.0/8\"]",
        "/admin is closed to strangers here, and open to everybody below it",
    ),
    policy(
        "path =",
        "path = \"/admin\"\nmethods = [\"POST\"]\nallow_networks = [\"10.0.0.0/8\"]",
        "/admin is closed to strangers here, and open to everybody by other methods",
    ),
    policy("mode", "hosts = [\"*.admin.example\"]", "*.admin.example is for those who run things"),
    policy("rate", "rate = \"5000/s\"", "no client asks so often"),
    policy(
        "mode",
        "accounts = { logins = [{ path = \"/enter\" }] }\n[[apps.rate_limits]]\nname = \"enter\"\nkey = \"ip\"\npaths = [\"/enter\"]\nmethods = [\"GET\"]\nrate = \"5/m\"",
        "tried at /enter as fast as it answers",
    ),
    policy(
        "[apps.limits]",
        "[apps.limits]\n[[apps.exclusions]]\nrules = [8512000]\ntarget = \"ARGS:note\"\npath = \"/shop\"\nowner = \"ann\"\nreason = \"the editor at /shop/notes\"\nuntil = {soon}",
        "the reason is about /shop/notes, and the exclusion holds for all that is below /shop",
    ),
    policy(
        "[apps.limits]",
        "[apps.limits]\n[[apps.exclusions]]\nrules = [8512000]\npath = \"/shop\"\nowner = \"ann\"\nreason = \"ARGS:note holds markup\"\nuntil = {soon}",
        "the reason is about ARGS:note",
    ),
    exclusion!("tags = [\"attack/.*\"]\ntarget = \"ARGS:note\"", "is of attacks of many kinds"),
    policy(
        "path =",
        "path = \"/shop\"\n[sites.fra.defaults]\nexclusions = [{ rules = [8512000], target = \"ARGS:note\", path = \"/shop\", owner = \"ann\", reason = \"ticket\", until = 2024-01-31 }]",
        "an exclusion of app `shop` has ended",
    ),
    rules("Include inner.inc", "rules refuse nothing any more"),
    rules(
        "SecRule REMOTE_ADDR \"@ipMatch 0.0.0.0/1,128.0.0.0/1\" \"id:1002,phase:1,nolog,allow\"",
        "no later rule looks",
    ),
    rules(
        "SecRule REMOTE_ADDR \"!@ipMatch 10.0.0.0/8\" \"id:1002,phase:1,nolog,allow\"",
        "for all but a few addresses",
    ),
    rules(
        "SecRule REQUEST_URI \"@rx ^/\" \"id:1002,phase:1,nolog,pass,ctl:ruleEngine=DetectionOnly\"",
        "all rules are off for all requests",
    ),
    rules(
        "SecRule REQUEST_FILENAME \"@beginsWith /\" \"id:1002,phase:1,nolog,pass,ctl:ruleRemoveByTag=phalanx/attack\"",
        "removed, for all requests",
    ),
    rules(
        "SecRule REQUEST_METHOD \"!@rx ^PROPFIND$\" \"id:1002,phase:1,nolog,pass,ctl:ruleEngine=Off\"",
        "all rules are off for all requests but a few",
    ),
    rules(
        "SecRule REQUEST_FILENAME \"@streq /in\" \"id:1002,phase:1,nolog,pass,ctl:ruleRemoveById=949110\"",
        "the rule that refuses for what all others found is removed",
    ),
    rules(
        "SecRule ARGS|REQUEST_HEADERS \"@contains x\" \"id:1001,phase:2,deny\"\nSecRule ARGS_GET:q \"@contains xy\" \"id:1002,phase:2,deny\"",
        "the one in line 1 refuses all that it would meet",
    ),
    rules(
        "SecRule ARGS:q \"@contains x\" \"id:1001,phase:2,deny,t:none,t:lowercase\"\nSecRule ARGS:q \"@contains xy\" \"id:1002,phase:2,deny,t:lowercase\"",
        "the one in line 1 refuses all that it would meet",
    ),
    rules(
        "SecRule REMOTE_ADDR \"@ipMatch 198.51.0.0/16\" \"id:1001,phase:1,deny\"\nSecRule REMOTE_ADDR \"@ipMatch 198.51.100.0/24\" \"id:1002,phase:2,deny\"",
        "the one in line 1 refuses all that it would meet",
    ),
    rules(
        "SecRule REQUEST_HEADERS:User-Agent \"@pm sqlmap nikto\" \"id:1001,phase:1,deny\"\nSecRule REQUEST_HEADERS:User-Agent \"@contains Nikto/\" \"id:1002,phase:1,deny\"",
        "the one in line 1 refuses all that it would meet",
    ),
    settings(
        "[fleet]",
        "[lapi]\nlisten = \"0.0.0.0:8088\"\nplain_http = true\n[fleet]",
        "keys of bouncers that travel to 0.0.0.0:8088 can be read",
    ),
];

const fn policy(at: &'static str, says: &'static str, told: &'static str) -> Fault {
    Fault { file: "policy.toml", at, says, told }
}

const fn rules(says: &'static str, told: &'static str) -> Fault {
    Fault { file: "own.conf", at: "SecRule", says, told }
}

const fn settings(at: &'static str, says: &'static str, told: &'static str) -> Fault {
    Fault { file: "phalanx.toml", at, says, told }
}
