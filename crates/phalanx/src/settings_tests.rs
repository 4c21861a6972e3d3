//! What is read of settings, and what is told of mistakes.

use super::*;

pub(crate) fn read_with(sections: &str) -> (Option<Settings>, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("phalanx.toml");
    std::fs::write(&file, format!("policy = \"policy.toml\"\n[node]\nstate = \"state\"\n{sections}"))
        .unwrap();
    let (settings, faults) = read(&file);
    let name = format!("{}:", file.display());
    let faults = faults.iter().map(|fault| fault.to_string().replace(&name, "")).collect();
    (settings.map(|(settings, _)| settings), faults)
}

#[test]
fn copies_of_streams_are_as_many_as_a_cluster_can_lose_a_server_with() {
    let (settings, faults) = read_with("[fleet]\nurl = \"nats://127.0.0.1:4222\"\nreplicas = 3");
    assert_eq!((settings.unwrap().fleet.unwrap().replicas, faults.len()), (3, 0));
    let (_, faults) = read_with("[fleet]\nurl = \"nats://127.0.0.1:4222\"\nreplicas = 2");
    assert!(faults[0].to_string().contains("`replicas` is 1, 3 or 5"), "{}", faults[0]);
}

#[test]
fn sources_are_read_and_mistakes_about_them_told() {
    let head = "[[import.crowdsec]]\napi_key_file = \"key\"\n";
    for (source, fault) in [
        ("url = \"http://127.0.0.1:8080/\"", None),
        ("url = \"http://localhost\"\nevery = \"1m\"\norigins = [\"cscli\", \"lists:tor\"]\nlimit = 5", None),
        ("url = \"http://[::1]:8080\"", None),
        ("url = \"https://lapi.example\"\nca_file = \"ca.pem\"", None),
        ("url = \"http://10.0.0.1:8080\"\nplain_http = true", None),
        ("url = \"http://10.0.0.1:8080\"", Some("error: 6: the API key would be sent in the clear")),
        ("url = \"10.0.0.1:8080\"", Some("error: 6: `10.0.0.1:8080` is no address of a CrowdSec local API")),
        ("url = \"https://l\"\nevery = \"0s\"", Some("error: 7: `every` goes from 1s to 1h")),
        ("url = \"https://l\"\nlimit = 50001", Some("error: 7: `limit` goes from 1 to 50000")),
        ("url = \"https://l\"\norigins = [\"a&b\"]", Some("error: 7: `a&b` is no origin of decisions")),
        ("", Some("error: 4: missing field `url`")),
    ] {
        let (settings, faults) = read_with(&format!("{head}{source}\n"));
        assert_eq!(faults.is_empty(), fault.is_none(), "{source} {faults:?}");
        match fault {
            Some(fault) => assert!(faults[0].starts_with(fault), "{faults:?}"),
            None => assert_eq!(settings.unwrap().imports.len(), 1, "{source}"),
        }
    }
}

#[test]
fn bouncers_are_listened_to_in_the_clear_only_where_that_is_said() {
    for (lapi, listen, fault) in [
        ("", None, None),
        ("[lapi]\nlisten = \"127.0.0.1:8901\"\n", Some("127.0.0.1:8901"), None),
        ("[lapi]\nlisten = \"[::1]:8901\"\n", Some("[::1]:8901"), None),
        ("[lapi]\nlisten = \"0.0.0.0:8901\"\n", Some("0.0.0.0:8901"), Some("error: 5: bouncers would send")),
        ("[lapi]\nlisten = \"10.0.0.1:8901\"\nplain_http = true\n", Some("10.0.0.1:8901"), None),
        ("[lapi]\nlisten = \"lapi\"\n", None, Some("error: 5: `lapi` is no address with a port")),
        ("[lapi]\n", None, Some("error: 4: missing field `listen`")),
    ] {
        let (settings, faults) = read_with(lapi);
        let read = settings.and_then(|settings| settings.lapi).map(|listen| listen.to_string());
        assert_eq!(read.as_deref(), listen, "{lapi} {faults:?}");
        assert_eq!(faults.is_empty(), fault.is_none(), "{lapi} {faults:?}");
        if let Some(fault) = fault {
            assert!(faults[0].starts_with(fault), "{faults:?}");
        }
    }
}

#[test]
fn databases_of_addresses_are_named_from_the_settings_folder_and_limited() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("phalanx.toml");
    let read = |database: &str| {
        std::fs::write(&file, format!("policy = \"policy.toml\"\n[geo]\ndatabase = [{database}]\n")).unwrap();
        let (settings, faults) = read(&file);
        (settings.unwrap().0.geo, faults.iter().map(ToString::to_string).collect::<String>())
    };
    let (files, faults) = read(r#""country.mmdb", "/srv/asn.mmdb""#);
    assert_eq!(files, [folder.path().join("country.mmdb"), "/srv/asn.mmdb".into()]);
    assert!(faults.is_empty(), "{faults}");
    let (_, faults) = read(r#""1", "2", "3", "4", "5""#);
    assert!(faults.contains(":3: a node reads at most 4 databases"), "{faults}");
}

#[test]
fn tls_listeners_and_certificates_go_together() {
    let certificate = "[[certificate]]\ncert = \"shop.pem\"\nkey = \"shop.key\"\n";
    let listen = |more: &str| format!("[[listen.tls]]\naddress = \"0.0.0.0:8443\"\n{more}");
    let (settings, faults) = read_with(&format!(
        "{}{}{certificate}",
        listen("require_pq = true\nclient_ca = \"staff.pem\"\nclient_certificate = \"request\"\n"),
        listen("")
    ));
    assert!(faults.is_empty(), "{faults:?}");
    let settings = settings.unwrap();
    // Nothing was said of plain HTTP, so there is none.
    assert_eq!(settings.listen, []);
    let [first, second] = settings.tls.listeners.as_slice() else { panic!("two") };
    assert!(first.require_pq && !first.clients.as_ref().unwrap().required);
    assert!(!second.require_pq && second.clients.is_none());
    assert!(settings.tls.certificates[0].key.ends_with("shop.key"));
    for (sections, fault) in [
        (listen(""), "error: 5: a TLS listener needs a certificate"),
        (certificate.to_owned(), "error: 5: no listener shows this certificate"),
        (
            format!("{}{certificate}", listen("client_certificate = \"require\"\n")),
            "error: 6: nothing says whose certificates are believed",
        ),
        (
            format!("{}{certificate}", listen("client_ca = \"a\"\nclient_certificate = \"maybe\"\n")),
            "error: 7: unknown value `maybe`",
        ),
        (
            format!("[[listen.tls]]\naddress = \"8443\"\n{certificate}"),
            "error: 5: `8443` is no address with a port",
        ),
    ] {
        let (_, faults) = read_with(&sections);
        assert!(faults[0].starts_with(fault), "{sections}: {faults:?}");
    }
}

#[test]
fn certificates_are_ordered_as_it_is_written_and_mistakes_are_told() {
    let acme = "[acme]\ndirectory = \"https://ca.test/dir\"\nagree_to_terms = true\n";
    let listen = "[listen]\naddress = [\"0.0.0.0:80\"]\n[[listen.tls]]\naddress = \"0.0.0.0:443\"\n";
    let all = "contact = [\"mailto:a@b.test\"]\nhosts = [\"Shop.test\"]\nchallenge = \"tls-alpn-01\"\nca_file = \"ca.pem\"\n\
         eab_key_id = \"kid\"\neab_key_file = \"eab.key\"\nplaceholder = true\n";
    let (settings, faults) = read_with(&format!("{listen}{acme}{all}"));
    assert_eq!(faults, [] as [&str; 0]);
    let acme_of = |settings: Option<Settings>| settings.unwrap().tls.acme.unwrap();
    let read = acme_of(settings);
    assert!(read.placeholder && read.order.hosts == ["shop.test"]);
    assert_eq!(read.order.challenge, phalanx_control::Challenge::TlsAlpn01);
    let (settings, faults) = read_with(&format!("{listen}{acme}"));
    assert!(faults.is_empty() && acme_of(settings).order.hosts.is_empty(), "{faults:?}");
    let only_tls = "[[listen.tls]]\naddress = \"0.0.0.0:443\"\n";
    for (sections, expected) in [
        (format!("{listen}{}", acme.replace("true", "false")), "error: 9: the authority's terms"),
        (format!("{listen}{}", acme.replace("https", "http")), "is no address of a directory"),
        (
            format!("{listen}{acme}hosts = [\"*.shop.test\"]\n"),
            "no certificate can be ordered for `*.shop.test`",
        ),
        (format!("{listen}{acme}hosts = [\"192.0.2.1\"]\n"), "no certificate can be ordered for"),
        (format!("{listen}{acme}contact = [\"a@b.test\"]\n"), "is no way to write to somebody"),
        (format!("{listen}{acme}challenge = \"dns-01\"\n"), "unknown value `dns-01`"),
        (format!("{listen}{acme}eab_key_id = \"kid\"\n"), "its key is missing"),
        (format!("{only_tls}{acme}"), "there is no listener without TLS"),
        (acme.to_owned(), "no listener shows these certificates"),
    ] {
        let (_, faults) = read_with(&sections);
        assert!(faults.len() == 1 && faults[0].contains(expected), "{sections}: {faults:?}");
    }
}

#[test]
fn certificates_for_upstreams_have_names() {
    let one = "[[upstream_certificate]]\nname = \"shop\"\ncert = \"a.pem\"\nkey = \"a.key\"\n";
    let (settings, faults) = read_with(one);
    assert!(faults.is_empty(), "{faults:?}");
    let identities = settings.unwrap().tls.identities;
    assert_eq!(identities[0].0, "shop");
    assert!(identities[0].1.key.ends_with("a.key"));
    let (_, faults) = read_with(&format!("{one}{one}"));
    assert!(faults[0].starts_with("error: 9: there is another certificate `shop`"), "{faults:?}");
}

#[test]
fn when_orders_are_held_is_a_setting_within_limits() {
    let (settings, faults) = read_with("[held]\nshare_percent = 20\nclients_least = 50");
    assert_eq!(faults, [] as [&str; 0]);
    assert_eq!(settings.unwrap().held, HoldLimits { share_percent: 20, clients_least: 50 });
    for (wrong, expected) in [
        ("share_percent = 0", "`share_percent` goes from 1 to 100"),
        ("share_percent = 257", "`share_percent` goes from 1 to 100"),
        ("clients_least = 1", "`clients_least` is 2 or more"),
    ] {
        let (_, faults) = read_with(&format!("[held]\n{wrong}"));
        assert!(faults.len() == 1 && faults[0].contains(expected), "{wrong}: {faults:?}");
    }
}

#[test]
fn listeners_behind_balancers_are_read_and_mistakes_about_them_told() {
    let (settings, faults) = read_with(
        "[listen]\naddress = [\"127.0.0.1:1\"]\n[[listen.http]]\naddress = \"127.0.0.1:2\"\n\
         proxy_protocol = [\"10.0.0.0/8\"]\n[[listen.http]]\naddress = \"127.0.0.1:3\"\n",
    );
    assert_eq!(faults, Vec::<String>::new());
    let settings = settings.unwrap();
    let ports: Vec<_> = settings.listen.iter().map(SocketAddr::port).collect();
    assert_eq!(ports, [1, 2, 3]);
    let proxied: Vec<_> = settings.proxied.iter().map(Option::is_some).collect();
    assert_eq!(proxied, [false, true, false]);
    for (networks, fault) in [
        ("[]", "no balancer is named"),
        ("[\"10.0.0\"]", "`10.0.0` is no IP address or range"),
        ("[\"0.0.0.0/0\"]", "any client could claim any other"),
    ] {
        let section = format!("[[listen.http]]\naddress = \"127.0.0.1:2\"\nproxy_protocol = {networks}");
        let (_, faults) = read_with(&section);
        assert!(faults[0].contains(fault), "{faults:?}");
    }
}

#[test]
fn how_long_connections_may_go_on_and_what_is_confined_are_settings() {
    // The helper writes `[node]` with the state just before these lines.
    let (settings, faults) = read_with(
        "drain = \"30s\"\nhandover = \"1h\"\n[sandbox]\ncalls = false\nread = [\"rules\", \"/srv/rules\"]",
    );
    assert_eq!(faults, [] as [&str; 0]);
    let settings = settings.unwrap();
    assert_eq!(
        settings.drains,
        Drains { stop: Duration::from_secs(30), handover: Duration::from_secs(3600) }
    );
    assert!(settings.sandbox.files && !settings.sandbox.calls);
    assert!(settings.sandbox.read[0].is_absolute() && settings.sandbox.read[0].ends_with("rules"));
    for (wrong, expected) in [
        ("drain = \"30\"", "a duration is a number with"),
        ("handover = \"25h\"", "`handover` is a day at most"),
        ("[sandbox]\nfile = true", "unknown key `file`"),
    ] {
        let (_, faults) = read_with(wrong);
        assert!(faults.len() == 1 && faults[0].contains(expected), "{wrong}: {faults:?}");
    }
}

#[test]
fn a_console_beyond_loopback_has_tls_and_a_name() {
    let files = "cert = \"c.pem\"\nkey = \"c.key\"\n";
    let named = "names = [\"console.example\"]\n";
    for (admin, table, fault) in [
        ("127.0.0.1:8900", "", None),
        ("[::1]:8900", named, None),
        ("127.0.0.1:8900", files, None),
        ("0.0.0.0:8900", &format!("{named}{files}"), None),
        (
            "0.0.0.0:8900",
            "names = [\"a.example:443\", \"b.example\"]\ncert = \"c.pem\"\nkey = \"c.key\"\n",
            None,
        ),
        ("0.0.0.0:8900", "", Some("error: 5: the console has no TLS and must be on loopback")),
        ("10.0.0.1:8900", named, Some("error: 5: the console has no TLS and must be on loopback")),
        ("10.0.0.1:8900", files, Some("error: 5: the console is beyond loopback and has no name")),
        ("127.0.0.1:8900", "names = [\"192.0.2.1\"]\n", Some("error: 7: `192.0.2.1` is no host name")),
        (
            "127.0.0.1:8900",
            "names = [\"https://a.example\"]\n",
            Some("error: 7: `https://a.example` is no host name"),
        ),
        ("127.0.0.1:8900", "key = \"c.key\"\n", Some("error: 7: a certificate needs its key")),
    ] {
        let (settings, faults) = read_with(&format!("[listen]\nadmin = \"{admin}\"\n[admin]\n{table}"));
        match fault {
            Some(fault) => {
                assert!(faults.iter().any(|one| one.starts_with(fault)), "{admin} {table}: {faults:?}")
            }
            None => {
                assert!(faults.is_empty(), "{admin} {table}: {faults:?}");
                assert_eq!(settings.unwrap().tls.console.is_some(), table.contains("cert"), "{table}");
            }
        }
    }
}
