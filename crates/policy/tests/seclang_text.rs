//! Rule files: what is read, and what is said about mistakes.

use phalanx_policy::seclang::ir::{Action, Item, Rule, Transformation};
use phalanx_policy::seclang::{LoadOptions, Loaded, load_baseline, load_dirs, load_texts};
use phalanx_policy::{Diagnostic, Files, Level};
use proptest::prelude::*;

fn load(text: &str) -> Result<Loaded, Vec<Diagnostic>> {
    load_texts(&[("t.conf", text)], &LoadOptions::default())
}

fn told(text: &str) -> String {
    let faults = match load(text) {
        Ok(loaded) => loaded.warnings,
        Err(faults) => faults,
    };
    faults.iter().map(|fault| format!("{fault}\n")).collect()
}

fn rules(loaded: &Loaded) -> Vec<&Rule> {
    let own = loaded.rules.items.iter().filter_map(|item| match item {
        Item::Rule(rule) => Some(rule),
        _ => None,
    });
    own.filter(|rule| rule.links.iter().all(|link| &*link.at.file == "t.conf")).collect()
}

#[test]
fn mistakes_in_rules_are_told_with_line_and_help() {
    insta::assert_snapshot!(told(
        r#"SecRul ARGS "x" "id:1"
SecRule ARGZ|ARGS "@rx x" "id:2,phase:2,deny"
SecRule ARGS "@containz x" "id:3,phase:2,deny"
SecRule ARGS "x" \
    "id:4,\
    phase:9,\
    t:lowercas,\
    t:none,\
    denny,\
    status:99,\
    severity:'AWFUL',\
    msg:'it\'s %{TXX.0}',\
    setvar:'ARGS.x=1',\
    setvar:tx.n=+x,\
    ctl:ruleRemoveTargetById=5,\
    ctl:ruleRemoveTargetByIdd=5;ARGS"
SecRule ARGS "x" "phase:2,pass"
SecRule ARGS "x" "id:6,deny
SecRule ARGS "x"y "id:7,deny"
SecRule ARGS "@rx a" "id:8,chain,deny"
    SecRule ARGS "@rx b" "id:9,phase:1,deny,skipAfter:X"
SecRule ARGS "a" "id:8,pass"
SecRule REMOTE_ADDR "@ipMatch 10.0.0.0/8,300.1.1.1" "id:10,pass"
SecRule ARGS "@pmFromFile none.data" "id:11,pass"
SecRule ARGS "@eq many" "id:12,pass"
SecRule ARGS "@validateByteRange 1-256" "id:13,pass"
SecRule ARGS "@inspectFile /bin/x" "id:14,pass"
SecRule ARGS "x" "id:15,exec:/bin/x,pass,"
SecRule XML:/a "x" "id:16,pass"
SecAction "id:17,pass,skipAfter:END_HERE"
SecMarker "END-HERE"
SecAction "id:18,pass,skipAfter:BEGIN"
SecDefaultAction "log,deny"
SecRuleEngine Maybe
SecRequestBodyLimit a b
SecHashEngine On
SecRuleScript /x.lua "deny"
SecRuleRemoveById 1x
SecRuleUpdateTargetById 8 "ARGS" "ARGS_NAMES"
Include no-such-*.conf
<IfModule security2_module>
SecMarker
SecRule ARGS "x" "id:19,deny,chain"
"#
    ));
}

#[test]
fn what_has_no_effect_is_said() {
    insta::assert_snapshot!(told(
        r#"# a comment that goes on \
SecRuleEngine Off
SecAuditLog /var/log/x
SecAuditLogFormat JSON
SecAuditLogType Serial
SecAuditLogParts ABIJDEFHZ
SecAuditLogRelevantStatus ^5
SecPcreMatchLimit 1000
SecUploadKeepFiles Off
SecStatusEngine On
SecTmpDir /tmp
SecRule REMOTE_ADDR "@geoLookup" "id:1,pass,deny"
SecRuleRemoveById 77 80-90
SecDefaultAction "phase:1,pass"
SecDefaultAction "phase:1,deny"
"#
    ));
}

#[test]
fn defaults_reach_the_rules_below_them() {
    let loaded = load(
        r#"SecDefaultAction "phase:2,log,auditlog,deny,status:406,t:lowercase"
SecRule ARGS "a" "id:1,phase:2,t:urlDecode"
SecRule ARGS "a" "id:2,phase:2,t:none,t:urlDecode,pass,nolog"
SecRule ARGS "a" "id:3,phase:2,block,chain"
    SecRule ARGS "b" "t:trim"
SecRule ARGS "a" "id:4,phase:1"
"#,
    )
    .map_err(|faults| format!("{faults:?}"))
    .unwrap();
    let rules = rules(&loaded);
    let link = |rule: usize, link: usize| &rules[rule].links[link];
    assert_eq!(link(0, 0).transformations, [Transformation::Lowercase, Transformation::UrlDecode]);
    assert_eq!(link(0, 0).actions, [Action::Log, Action::AuditLog, Action::Deny, Action::Status(406)]);
    assert_eq!(link(1, 0).transformations, [Transformation::UrlDecode]);
    assert_eq!(link(1, 0).actions, [Action::Pass, Action::NoLog]);
    assert_eq!(link(2, 0).actions, [Action::Log, Action::AuditLog, Action::Block]);
    assert_eq!(link(2, 1).transformations, [Transformation::Lowercase, Transformation::Trim]);
    assert_eq!(link(3, 0).actions, []);
    assert!(loaded.rules.engine.default_actions[1].contains(&Action::Deny));
}

#[test]
fn every_form_of_action_is_read() {
    let loaded = load(
        r#"SecRule ARGS:'a|b'|&TX:x "!@pm a |41 42|c d" "id:1,phase:request,capture,multiMatch,t:normalizePath,\
    msg:'a, b: it\'s %{MATCHED_VAR}',severity:'2',tag:x/y,ver:'1.0',logdata:%{TX.0},\
    setvar:tx.a,setvar:!tx.b,setvar:'tx.c_%{MATCHED_VAR_NAME}=+%{tx.d}',setvar:ip.e=-5,setvar:tx.f=-g,\
    expirevar:'ip.e=%{tx.d}',initcol:ip=%{REMOTE_ADDR}_x,ctl:ruleRemoveTargetByTag=CRS;ARGS:/^x|y/,\
    ctl:'ruleRemoveById=1,5-9',ctl:requestBodyProcessor=xml,allow:phase"
"#,
    )
    .map_err(|faults| format!("{faults:?}"))
    .unwrap();
    insta::assert_debug_snapshot!(rules(&loaded)[0].links[0]);
}

#[test]
fn folders_load_in_the_documented_order() {
    let root = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = root.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let names = [
        "crs-setup.conf.example",
        "plugins/a-config.conf",
        "plugins/z-before.conf",
        "rules/REQUEST-1.conf",
        "rules/REQUEST-2.conf",
        "plugins/a-after.conf",
    ];
    for (id, name) in (1..).zip(names) {
        write(name, &format!("SecAction \"id:{id},pass\"\n"));
    }
    write(
        "rules/REQUEST-2.conf",
        "SecAction \"id:5,pass\"\nSecRule ARGS \"@pmFromFile words.data\" \"id:7,pass\"\n",
    );
    write("rules/words.data", "# words\none\n\n two \n");
    write("rules/REQUEST-9.conf.example", "broken");
    let options = LoadOptions { paranoia: Some(3), ..LoadOptions::default() };
    let loaded = load_dirs(&[root.path().to_path_buf()], &options).unwrap();
    assert_eq!(order(&loaded), [1, 8_500_100, 2, 3, 4, 5, 7, 6]);
}

/// Rules with ids below 100, and the one that sets the paranoia level, in load order.
fn order(loaded: &Loaded) -> Vec<u64> {
    let ids = loaded.rules.items.iter().filter_map(|item| match item {
        Item::Rule(rule) if rule.id < 100 || rule.id == 8_500_100 => Some(rule.id),
        _ => None,
    });
    ids.collect()
}

#[test]
fn single_files_named_before_or_config_come_before_the_rules() {
    let root = tempfile::tempdir().unwrap();
    let names = ["crs/crs-setup.conf", "x-config.conf", "y-before.conf", "crs/rules/R.conf", "z.conf"];
    let paths = names.map(|name| root.path().join(name));
    std::fs::create_dir_all(root.path().join("crs/rules")).unwrap();
    for (id, path) in (1..).zip(&paths) {
        std::fs::write(path, format!("SecAction \"id:{id},pass\"\n")).unwrap();
    }
    let options = LoadOptions { paranoia: Some(3), ..LoadOptions::default() };
    let [_, x, y, _, z] = paths.clone();
    let loaded = load_dirs(&[root.path().join("crs"), z, x, y], &options).unwrap();
    assert_eq!(order(&loaded), [1, 2, 3, 8_500_100, 4, 5]);
    let texts = [("z.conf", "SecAction \"id:5,pass\""), ("a/y-before.conf", "SecAction \"id:3,pass\"")];
    assert_eq!(order(&load_texts(&texts, &LoadOptions::default()).unwrap()), [3, 5]);
}

#[test]
fn a_packages_list_says_where_its_files_are() {
    let root = tempfile::tempdir().unwrap();
    let folder = |name: &str| {
        let path = root.path().join(name);
        std::fs::create_dir_all(&path).unwrap();
        path
    };
    let (etc, rules) = (folder("etc"), folder("share/rules"));
    for (id, path) in (1..).zip([
        etc.join("crs-setup.conf"),
        etc.join("EXCLUSIONS.conf"),
        rules.join("A.conf"),
        rules.join("B.conf"),
        etc.join("AFTER.conf"),
    ]) {
        std::fs::write(path, format!("SecAction \"id:{id},pass\"\n")).unwrap();
    }
    let share = root.path().join("share");
    let list = |text: &str| std::fs::write(share.join("owasp-crs.load"), text).unwrap();
    let etc = etc.display();
    list(&format!(
        "## what the web server loads\nInclude {etc}/crs-setup.conf\nIncludeOptional {etc}/EXCLUSIONS.conf\n\
         include rules/*.conf\nIncludeOptional {etc}/AFTER.conf\nIncludeOptional {etc}/ABSENT.conf\n"
    ));
    let options = LoadOptions { paranoia: Some(3), ..LoadOptions::default() };
    let load = || load_dirs(std::slice::from_ref(&share), &options);
    assert_eq!(order(&load().unwrap()), [1, 8_500_100, 2, 3, 4, 5]);
    for (text, told) in [
        ("Include /nonexistent/x.conf\n", "owasp-crs.load:1: nothing is there for `/nonexistent/x.conf`"),
        ("\nSecRule\n", "owasp-crs.load:2: `SecRule` is neither Include nor IncludeOptional"),
    ] {
        list(text);
        assert_eq!(load().unwrap_err()[0].message, told);
    }
}

#[test]
fn a_folder_without_rules_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    let faults = load_dirs(&[root.path().to_path_buf()], &LoadOptions::default()).unwrap_err();
    assert_eq!(faults[0].message, "the folder holds no rule file");
    let faults = load_dirs(&["/nonexistent/x".into()], &LoadOptions::default()).unwrap_err();
    assert_eq!(faults[0].level, Level::Error);
}

#[test]
fn files_that_include_each_other_are_an_error() {
    let faults = load_texts(
        &[("a.conf", "Include b.conf\n"), ("b.conf", "Include a.conf\n")],
        &LoadOptions::default(),
    );
    assert!(faults.unwrap_err().iter().any(|fault| fault.message.contains("includes itself")));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_without_a_panic(text in ".{0,400}") {
        let _ = load(&text);
    }

    #[test]
    fn any_rule_like_text_is_read_or_refused_without_a_panic(
        variables in r#"[A-Z_!&|:/'.,*a-z]{0,40}"#,
        operator in r#"(!?@(rx|pm|eq|within|ipMatch|validateByteRange|verifyCC|x))?[ -~%{}|]{0,40}"#,
        actions in r#"((id|phase|t|ctl|setvar|msg|severity|chain|skipAfter|initcol|expirevar|allow):?'?[ -~]{0,20}'?,?\\?\n?){0,6}"#,
    ) {
        let _ = load(&format!("SecRule {variables} \"{operator}\" \"{actions}\"\n"));
    }
}

#[test]
fn a_rule_that_its_set_up_leaves_off_is_told_of_when_it_is_turned_on() {
    let rules = "SecRule TX:HIGH_RISK_COUNTRY_CODES \"!@rx ^$\" \"id:910100,phase:2,block,nolog,chain\"\n  SecRule TX:REAL_IP \"@geoLookup\" \"t:none\"\n";
    let told = |set_up: &str| {
        let texts = [("crs-setup.conf", set_up), ("rules.conf", rules)];
        load_texts(&texts, &LoadOptions::default()).unwrap().warnings.len()
    };
    assert_eq!(told("SecAction \"id:900600,phase:1,nolog,pass,setvar:'tx.high_risk_country_codes='\"\n"), 0);
    assert_eq!(
        told("SecAction \"id:900600,phase:1,nolog,pass,setvar:'tx.high_risk_country_codes=XX'\"\n"),
        1
    );
    let own = rules.replace("910100", "1000");
    assert_eq!(load_texts(&[("own.conf", &own)], &LoadOptions::default()).unwrap().warnings.len(), 1);
}

#[test]
fn files_beside_the_baseline_include_others_and_read_their_data() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write(
        "own.conf",
        "Include inner.inc\nSecRule ARGS:a \"@pmFromFile words.data\" \"id:1001,phase:2,deny\"\n",
    );
    write("inner.inc", "SecRule ARGS:b \"@streq x\" \"id:1002,phase:2,deny\"\n");
    write("words.data", "bad\n");
    let load = |names: &[&str]| {
        let own: Vec<_> = names.iter().map(|name| folder.path().join(name)).collect();
        load_baseline(Files::Disk, &own, &LoadOptions::default())
    };
    let loaded = load(&["own.conf", "words.data"]).unwrap();
    let ids: Vec<u64> = loaded
        .rules
        .items
        .iter()
        .filter_map(|item| match item {
            Item::Rule(rule) => Some(rule.id),
            _ => None,
        })
        .collect();
    assert!(ids.ends_with(&[1002, 1001]), "{ids:?}");
    let faults = load(&["gone.conf", "gone.data"]).unwrap_err();
    assert!(
        faults.len() == 2 && faults.iter().all(|fault| fault.message.starts_with("cannot read")),
        "{faults:?}"
    );
}
