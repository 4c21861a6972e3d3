//! What is read of providers, and what is told of mistakes.

use std::os::unix::fs::OpenOptionsExt;

use phalanx_trust::Role;

use crate::settings::Settings;

fn read(section: &str) -> (Option<Settings>, Vec<String>) {
    use std::io::Write;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("phalanx.toml");
    std::fs::write(&file, format!("policy = \"policy.toml\"\n[node]\nstate = \"state\"\n{section}")).unwrap();
    let mut options = std::fs::OpenOptions::new();
    let secret =
        options.create(true).truncate(true).write(true).mode(0o600).open(folder.path().join("secret"));
    secret.unwrap().write_all(b"hush, hush\n").unwrap();
    let (settings, faults) = crate::settings::read(&file);
    let name = format!("{}:", file.display());
    let faults = faults.iter().map(|fault| fault.to_string().replace(&name, "")).collect();
    (settings.map(|(settings, _)| settings), faults)
}

const HEAD: &str = "[oidc.corp]\nclient_id = \"phalanx\"\n";
const GOOD: &str = "issuer = \"https://id.example/realms/staff\"\nclient_secret_file = \"secret\"\n";
const ROLES: &str =
    "roles = [{ group = \"sec\", role = \"editor\", apps = [\"shop\", \"blog\", \"shop\"] }]\n";

#[test]
fn a_provider_is_read_with_what_is_usual() {
    let (settings, faults) = read(&format!("{HEAD}{GOOD}{ROLES}"));
    assert!(faults.is_empty(), "{faults:?}");
    let oidc = settings.unwrap().oidc;
    assert_eq!((oidc.providers.len(), oidc.files.len()), (1, 1));
    let corp = oidc.providers[0].settings();
    assert_eq!((corp.title.as_str(), corp.client_secret.as_str()), ("corp", "hush, hush"));
    assert_eq!((corp.name_claim.as_str(), corp.groups_claim.as_str()), ("preferred_username", "groups"));
    assert_eq!(corp.scopes, ["openid", "profile"]);
    assert_eq!(
        (corp.rights[0].role, corp.rights[0].apps.as_slice()),
        (Role::Editor, ["blog", "shop"].map(String::from).as_slice())
    );
    assert!(!format!("{oidc:?}").contains("hush"), "{oidc:?}");
}

#[test]
fn mistakes_about_providers_are_told_with_their_place_and_a_way_out() {
    let owner = "roles = [{ group = \"root\", role = \"owner\" }]\n";
    let twice = "roles = [{ group = \"a\", role = \"viewer\" }, { group = \"a\", role = \"editor\" }]\n";
    for (section, fault) in [
        (format!("{HEAD}{GOOD}"), "error: 4: missing field `roles`"),
        (format!("{HEAD}{GOOD}roles = []\n"), "error: 8: nobody gets in"),
        (
            format!("{HEAD}{GOOD}roles = [{{ group = \"a\", role = \"viewer\", apps = [\"\"] }}]\n"),
            "error: 8: an app's name has 1 to 128 bytes",
        ),
        (
            format!("{HEAD}{GOOD}{ROLES}[oidc.other]\nclient_id = \"p\"\n{GOOD}{ROLES}"),
            "error: 11: another `[oidc.NAME]` has this issuer already",
        ),
        (format!("{HEAD}{GOOD}{owner}"), "error: 8: this lets the provider make owners"),
        (format!("{HEAD}{GOOD}{twice}"), "error: 8: `a` stands above already"),
        (format!("{HEAD}{GOOD}{ROLES}scopes = [\"a b\"]\n"), "error: 9: `a b` is no scope"),
        (format!("{HEAD}{GOOD}{ROLES}title = \"\"\n"), "error: 9: this has 1 to 256 bytes"),
        (format!("{HEAD}{GOOD}{ROLES}ca_file = \"none.pem\"\n"), "error: 9: "),
        (
            format!("{HEAD}issuer = \"http://id.example\"\nclient_secret_file = \"secret\"\n{ROLES}"),
            "error: 6: `http://id.example` is no https:// address",
        ),
        (
            format!("{HEAD}issuer = \"https://id.example\"\nclient_secret_file = \"none\"\n{ROLES}"),
            "error: 7: ",
        ),
        (
            format!("[oidc.Corp]\nclient_id = \"p\"\n{GOOD}{ROLES}"),
            "error: 4: `Corp` is no name of a provider",
        ),
        (format!("{HEAD}{GOOD}{ROLES}client_secret = \"x\"\n"), "error: 9: unknown key `client_secret`"),
    ] {
        let (_, faults) = read(&section);
        let told = faults.first().is_some_and(|told| told.starts_with(fault));
        assert!(told && faults.len() == 1, "{section}\n{faults:?}");
    }
    let (_, faults) = read(&format!("{HEAD}{GOOD}{owner}owners = true\n"));
    assert!(faults.is_empty(), "{faults:?}");
}
