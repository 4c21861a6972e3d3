//! TLS sessions over a fleet: where they go on, and where and when they do not.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, Stream, SupportedProtocolVersion, version,
};

use crate::acme::self_signed;
use crate::enrol::Fleet;
use crate::support::*;

/// A client that has no sessions yet.
pub(crate) fn client(folder: &Path, version: &'static SupportedProtocolVersion) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(folder.join("shop.pem")).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[version])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config)
}

/// Whether a client's request to this node resumed a session.
pub(crate) fn resumes(at: SocketAddr, client: &Arc<ClientConfig>) -> bool {
    let name = ServerName::try_from("shop.test").unwrap();
    let mut session = ClientConnection::new(Arc::clone(client), name).unwrap();
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut tls = Stream::new(&mut session, &mut stream);
    tls.write_all(b"GET / HTTP/1.1\r\nHost: shop.test\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    tls.read_to_end(&mut answer).unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&answer));
    session.handshake_kind() == Some(HandshakeKind::Resumed)
}

#[test]
fn a_session_goes_on_at_another_node_of_its_site_and_nowhere_else_nor_after_a_revocation() {
    if Command::new("openssl").arg("version").output().is_err() {
        return eprintln!("skipped: openssl not installed");
    }
    let folder = tempfile::tempdir().unwrap();
    self_signed(folder.path(), "shop", "DNS:shop.test");
    let file = |ending: &str| folder.path().join(format!("shop.{ending}")).display().to_string();
    let tls = ["--tls-listen", "127.0.0.1:0", "--cert", &file("pem"), "--key", &file("key")];
    let Some(fleet) = Fleet::start_with(&tls) else { return };
    let states = [(); 3].map(|()| tempfile::tempdir().unwrap());
    let edge = fleet.joins(states[0].path(), "fra", "e", &tls);
    let thief = fleet.joins(states[1].path(), "fra", "t", &tls);
    let elsewhere = fleet.joins(states[2].path(), "syd", "s", &tls);
    let at = |node: &Node| node.tls_listen.unwrap();
    let (a, e, t, s) = (at(&fleet.a), at(&edge), at(&thief), at(&elsewhere));
    for version in [&version::TLS13, &version::TLS12] {
        for other in [e, t] {
            until("what began at one node goes on at another", || {
                let client = client(folder.path(), version);
                !resumes(a, &client) && resumes(other, &client) && resumes(a, &client)
            });
        }
        let client = client(folder.path(), version);
        assert!(!resumes(a, &client) && !resumes(s, &client), "another site");
    }
    let before = client(folder.path(), &version::TLS13);
    assert!(!resumes(a, &before));
    let revoked = fleet.a.cli(&["fleet", "revoke", "fra/t", "--reason", "stolen"]);
    assert!(revoked.status.success(), "{}", String::from_utf8_lossy(&revoked.stderr));
    // Each session that is resumed gives new tickets: the first full handshake says that the keys are gone.
    until("what began before ends", || !resumes(a, &before));
    until("those who stay go on with new keys", || {
        let client = client(folder.path(), &version::TLS13);
        !resumes(a, &client) && resumes(e, &client)
    });
    // At once: keys are made for those who are believed when the revocation is known, and who was revoked is none of them.
    let after = client(folder.path(), &version::TLS13);
    assert!(!resumes(e, &after), "a client of its own");
    assert!(!resumes(t, &after), "who was revoked has none of them");
    assert!(!resumes(a, &client(folder.path(), &version::TLS13)));
}
