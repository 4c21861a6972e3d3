//! The authority and the servers of sites: invite, enrol, renew, put out.

use std::sync::Arc;

use crate::ca::{FleetAuthority, Invitation, proven, unavailable};
use crate::ca_state::{Issued, IssuedServer};
use crate::certificate::{self, CLOCK_ALLOWANCE_MS, CertificateOrder};
use crate::join::{JoinRefusal, JoinToken, der_texts};
use crate::nats_links::{self, NatsServerUser};
use crate::nats_login::{self, NatsKind, NatsRights};
use crate::site_server::{ServerGrant, ServerKeys, ServerPlace, ServerRenewal, ServerRequest};
use crate::spiffe::{Named, SpiffeId};
use crate::{TrustError, VerifyingKey, valid_name};

/// The public keys of a server.
struct Public {
    tls: VerifyingKey,
    links: VerifyingKey,
    keeper: VerifyingKey,
}

impl FleetAuthority {
    /// Makes a token that admits one server of a site, and no node.
    pub fn invite_server(&mut self, invitation: &Invitation, now_ms: u64) -> Result<JoinToken, TrustError> {
        if invitation.control {
            return Err(TrustError::Limit("a server gives no orders; invite it without the control role"));
        }
        self.invite_as(invitation, true, now_ms)
    }

    /// Admits a server whose token is good. The token is used up on disk before this returns.
    pub fn enrol_server(&mut self, request: &ServerRequest, now_ms: u64) -> Result<ServerGrant, JoinRefusal> {
        let ServerPlace { site, server, .. } = &request.place;
        if request.fleet != self.state.fleet {
            return Err(JoinRefusal::Foreign);
        }
        if !request.place.is_in_order() {
            return Err(JoinRefusal::Malformed("the server's names and addresses are not in order".into()));
        }
        let public = Public {
            tls: proven(&request.tls_request, "the server's key is not proven")?,
            links: proven(&request.links_request, "the key of its links is not proven")?,
            keeper: proven(&request.keeper_request, "the key of its keeper is not proven")?,
        };
        let name = format!("{site}/{server}");
        let token_place = self.token_place(&request.token, &request.secret).ok_or(JoinRefusal::Foreign)?;
        let token = self.state.tokens.get(token_place).ok_or(JoinRefusal::Foreign)?;
        if !token.server {
            return Err(JoinRefusal::Malformed(
                "the token is for a node; make one for a server with `phalanx fleet invite --server`".into(),
            ));
        }
        let known = self.state.servers.get(&name);
        let again = token.used_by.as_deref() == Some(name.as_str())
            && known.is_some_and(|known| known.key == public.tls);
        if let (Some(by), false) = (&token.used_by, again) {
            return Err(JoinRefusal::Used(by.clone()));
        }
        if now_ms >= token.expires_at_ms {
            return Err(JoinRefusal::Expired);
        }
        if token.site != *site {
            return Err(JoinRefusal::WrongSite(token.site.clone()));
        }
        // A name means one thing: whoever revokes it must hit what was meant, and a revocation is carried out again and again.
        if known.is_some_and(|known| known.revoked_at_ms.is_some()) {
            let fault = format!("a server of the name {name} was revoked; choose another --server");
            return Err(JoinRefusal::Malformed(fault));
        }
        if self.state.issued.contains_key(&name) || known.is_some_and(|known| known.key != public.tls) {
            return Err(JoinRefusal::NameTaken(name));
        }
        if known.is_none() && self.state.servers.len() >= SERVERS_MAX {
            return Err(JoinRefusal::Unavailable(format!("{SERVERS_MAX} servers are enrolled")));
        }
        self.fresh_services_issuer(now_ms).map_err(unavailable)?;
        let grant = self.server_grant(&request.place, &public, now_ms).map_err(unavailable)?;
        self.mark(token_place, Some(name.clone()));
        let before = self.state.servers.insert(name.clone(), issued(&public, &request.place, now_ms));
        if let Err(error) = self.save() {
            // What is not kept was not granted.
            match before {
                Some(before) => self.state.servers.insert(name, before),
                None => self.state.servers.remove(&name),
            };
            self.mark(token_place, None);
            return Err(unavailable(error));
        }
        Ok(grant)
    }

    /// A fresh certificate, fresh logins and the claims of the moment for a server that proves the key it is enrolled with.
    pub fn renew_server(&mut self, request: &ServerRenewal, now_ms: u64) -> Result<ServerGrant, JoinRefusal> {
        if request.fleet != self.state.fleet {
            return Err(JoinRefusal::Foreign);
        }
        let name = format!("{}/{}", request.place.site, request.place.server);
        let known = self.state.servers.get(&name).ok_or_else(|| JoinRefusal::NotEnrolled(name.clone()))?;
        if !request.is_signed_by(known.key) {
            return Err(JoinRefusal::NotEnrolled(name));
        }
        if known.revoked_at_ms.is_some() {
            return Err(JoinRefusal::Revoked(name));
        }
        if request.at_ms.abs_diff(now_ms) > CLOCK_ALLOWANCE_MS {
            return Err(JoinRefusal::Malformed(
                "the clocks of server and authority differ by more than 5 minutes".into(),
            ));
        }
        if !request.place.is_in_order() {
            return Err(JoinRefusal::Malformed("the server's names and addresses are not in order".into()));
        }
        let public = Public { tls: known.key, links: known.links_key, keeper: known.keeper_key };
        self.fresh_services_issuer(now_ms).map_err(unavailable)?;
        let grant = self.server_grant(&request.place, &public, now_ms).map_err(unavailable)?;
        // Servers ask every minute; the disk hears of it when something changed that the next start must know.
        if let Some(known) = self.state.servers.get_mut(&name)
            && known.clients != request.place.clients
        {
            known.clients.clone_from(&request.place.clients);
            self.save().map_err(unavailable)?;
        }
        Ok(grant)
    }

    /// What a server beside the authority holds. Writes nothing: the node that holds the authority may run in another process.
    pub fn server_grant_here(
        &self,
        place: &ServerPlace,
        keys: &ServerKeys,
        now_ms: u64,
    ) -> Result<ServerGrant, TrustError> {
        let public = Public {
            tls: keys.tls.verifying(),
            links: keys.links.verifying(),
            keeper: keys.keeper.verifying(),
        };
        self.server_grant(place, &public, now_ms)
    }

    /// Where the nodes of a site reach its servers; empty for a site that has none of its own, and for the authority's, which its
    /// node was told.
    pub fn clients_of(&self, site: &str) -> Vec<String> {
        let is_home = |(name, issued): (&String, &Issued)| {
            issued.rights == NatsRights::Steward && name.split('/').next() == Some(site)
        };
        if self.state.issued.iter().any(is_home) {
            return Vec::new();
        }
        let servers =
            self.state.servers.iter().filter(|(name, server)| {
                name.split('/').next() == Some(site) && server.revoked_at_ms.is_none()
            });
        servers.flat_map(|(_, server)| server.clients.clone()).collect()
    }

    /// The sites whose nodes use another site's server.
    pub fn sites_without_server(&self) -> Vec<String> {
        let invited = |site: &str| self.state.tokens.iter().any(|token| token.server && token.site == site);
        let served = |site: &String| !self.clients_of(site).is_empty() || invited(site);
        self.sites().into_iter().filter(|site| !served(site)).collect()
    }

    /// Ends what a server of this name holds. False if there is none.
    pub(crate) fn revoke_server(&mut self, name: &str, now_ms: u64) -> Result<bool, TrustError> {
        let Some(server) = self.state.servers.get_mut(name) else { return Ok(false) };
        server.revoked_at_ms.get_or_insert(now_ms);
        for key in [server.links_key, server.keeper_key] {
            self.state.nats_revoked.insert(nats_login::key_name(NatsKind::User, key), now_ms / 1000 + 1);
        }
        self.save()?;
        Ok(true)
    }

    /// So that servers beside the authority find an intermediate that lasts.
    pub(crate) fn fresh_services_issuer(&mut self, now_ms: u64) -> Result<(), TrustError> {
        self.issuer(&Named::Services, now_ms).map(drop)
    }

    fn server_grant(
        &self,
        place: &ServerPlace,
        keys: &Public,
        now_ms: u64,
    ) -> Result<ServerGrant, TrustError> {
        if !place.is_in_order() || !valid_name(&place.site) {
            return Err(TrustError::Grant("the server's names and addresses are not in order".into()));
        }
        let issuer =
            self.state.services.as_ref().ok_or(TrustError::Crypto("finding the intermediate for servers"))?;
        let id =
            SpiffeId { fleet: Arc::from(self.state.fleet.as_str()), what: Named::Service("nats".into()) };
        let order =
            CertificateOrder { id: &id, key: keys.tls, now_ms, for_ms: SERVER_MS, hosts: &place.hosts };
        let mut chain = self.chain(&order, issuer)?;
        chain.extend(self.state.root_certificates());
        let ends = certificate::describe(&issuer.certificate.0).map(|issuer| issuer.expires_at_ms);
        let expires_at_ms = now_ms.saturating_add(SERVER_MS).min(ends.unwrap_or_default());
        let (_, account, system) = self.state.nats_keys()?;
        let user = |key| NatsServerUser { site: &place.site, server: &place.server, key };
        Ok(ServerGrant {
            fleet: self.state.fleet.clone(),
            site: place.site.clone(),
            server: place.server.clone(),
            chain: der_texts(chain),
            roots: der_texts(self.state.root_certificates()),
            operator: self.nats_operator()?,
            links_login: nats_links::links(&account, &user(keys.links), now_ms, expires_at_ms),
            keeper_login: nats_links::keeper(&account, &user(keys.keeper), now_ms, expires_at_ms),
            system_login: nats_links::keeper_system(&system, &user(keys.keeper), now_ms, expires_at_ms),
            enrol: Vec::new(),
            issued_at_ms: now_ms,
            expires_at_ms,
        })
    }
}

fn issued(keys: &Public, place: &ServerPlace, now_ms: u64) -> IssuedServer {
    IssuedServer {
        key: keys.tls,
        links_key: keys.links,
        keeper_key: keys.keeper,
        clients: place.clients.clone(),
        enrolled_at_ms: now_ms,
        revoked_at_ms: None,
    }
}

/// How long certificate and logins of a server are good. Longer than a node's: while the authority cannot be reached a site
/// goes on, and what a server's keys can do is no more than to be silent.
const SERVER_MS: u64 = 7 * 24 * 60 * 60_000;
/// Three for each of more sites than the product is made for.
const SERVERS_MAX: usize = 192;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::join::ders;
    use crate::{EnrolRequest, NodeKeys, Sealer, SigningKey};

    const NOW: u64 = 1_800_000_000_000;

    fn shop() -> (tempfile::TempDir, FleetAuthority) {
        let folder = tempfile::tempdir().unwrap();
        let sealer = Arc::new(Sealer::ephemeral().unwrap());
        let authority = FleetAuthority::create(folder.path(), sealer, Some("shops"), NOW).unwrap();
        (folder, authority)
    }

    fn keys() -> ServerKeys {
        let key = || SigningKey::generate().unwrap();
        ServerKeys { tls: key(), links: key(), keeper: key() }
    }

    fn place(site: &str, server: &str) -> ServerPlace {
        ServerPlace {
            site: site.into(),
            server: server.into(),
            hosts: vec!["192.0.2.1".into()],
            clients: vec![format!("tls://{server}.example:4222")],
        }
    }

    fn invitation(site: &str) -> Invitation {
        Invitation { site: site.into(), control: false, addresses: vec!["192.0.2.1:1".into()], for_ms: 1_000 }
    }

    #[test]
    fn a_token_of_a_server_admits_one_server_of_its_site() {
        let (_folder, mut authority) = shop();
        let (mine, other) = (keys(), keys());
        let token = authority.invite_server(&invitation("syd"), NOW).unwrap();
        let ask = |site: &str, server: &str, keys: &ServerKeys| {
            ServerRequest::make(&token, &place(site, server), keys).unwrap()
        };
        let elsewhere = authority.enrol_server(&ask("fra", "n", &mine), NOW);
        assert_eq!(elsewhere, Err(JoinRefusal::WrongSite("syd".into())));
        assert_eq!(authority.enrol_server(&ask("syd", "n", &mine), NOW + 1_000), Err(JoinRefusal::Expired));
        let grant = authority.enrol_server(&ask("syd", "n", &mine), NOW).unwrap();
        assert_eq!(grant.check(&mine, NOW).unwrap(), authority.bundle().unwrap());
        assert!(grant.check(&other, NOW).is_err() && grant.check(&mine, NOW + SERVER_MS + 1_000).is_err());
        // Who lost the answer asks again; nobody else gets one.
        assert!(authority.enrol_server(&ask("syd", "n", &mine), NOW).is_ok());
        let used = Err(JoinRefusal::Used("syd/n".into()));
        assert_eq!(authority.enrol_server(&ask("syd", "m", &other), NOW), used);
    }

    #[test]
    fn tokens_of_nodes_and_of_servers_are_not_for_each_other() {
        let (_folder, mut authority) = shop();
        let (for_node, for_server) = (
            authority.invite(&invitation("syd"), NOW).unwrap(),
            authority.invite_server(&invitation("syd"), NOW).unwrap(),
        );
        let request = ServerRequest::make(&for_node, &place("syd", "n"), &keys()).unwrap();
        assert!(matches!(authority.enrol_server(&request, NOW), Err(JoinRefusal::Malformed(_))));
        let (node, nats) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let keys = NodeKeys { node: &node, operator: None, nats: &nats };
        let request = EnrolRequest::make(&for_server, "syd", "a", &keys).unwrap();
        assert!(matches!(authority.enrol(&request, NOW), Err(JoinRefusal::Malformed(_))));
    }

    #[test]
    fn a_server_renews_with_its_key_until_it_is_revoked() {
        let (_folder, mut authority) = shop();
        let mine = keys();
        let token = authority.invite_server(&invitation("syd"), NOW).unwrap();
        assert_eq!(authority.sites_without_server(), Vec::<String>::new(), "one is on its way");
        let request = ServerRequest::make(&token, &place("syd", "n"), &mine).unwrap();
        let grant = authority.enrol_server(&request, NOW).unwrap();
        authority.invite(&invitation("iad"), NOW).unwrap();
        assert_eq!(authority.sites_without_server(), ["iad"]);
        let moved = ServerPlace { clients: vec!["tls://192.0.2.9:4222".into()], ..place("syd", "n") };
        let renewal = |key: &SigningKey| ServerRenewal::make("shops", &moved, key, NOW);
        assert!(authority.renew_server(&renewal(&mine.links), NOW).is_err());
        let renewed = authority.renew_server(&renewal(&mine.tls), NOW).unwrap();
        assert_eq!((&renewed.operator, &renewed.roots), (&grant.operator, &grant.roots));
        assert_eq!(authority.clients_of("syd"), ["tls://192.0.2.9:4222"]);

        assert!(authority.revoke("syd", "n", None, NOW).unwrap());
        assert_eq!(
            authority.renew_server(&renewal(&mine.tls), NOW),
            Err(JoinRefusal::Revoked("syd/n".into()))
        );
        assert!(authority.clients_of("syd").is_empty());
        let claims = authority.nats_operator().unwrap().account.1;
        assert_ne!(claims, grant.operator.account.1, "other servers are told whom to refuse");
        let token = authority.invite_server(&invitation("syd"), NOW).unwrap();
        let again = ServerRequest::make(&token, &place("syd", "n"), &keys()).unwrap();
        assert!(authority.enrol_server(&again, NOW).is_err(), "a name that was revoked is not used again");
    }

    #[test]
    fn a_server_beside_the_authority_gets_the_same_without_a_word_on_disk() {
        let (_folder, authority) = shop();
        let mine = keys();
        let grant = authority.server_grant_here(&place("fra", "n"), &mine, NOW).unwrap();
        assert_eq!(grant.check(&mine, NOW).unwrap(), authority.bundle().unwrap());
        let reserved =
            ServerPlace { hosts: vec!["enrol.shops.phalanx.internal".into()], ..place("fra", "n") };
        assert!(authority.server_grant_here(&reserved, &mine, NOW).is_err());
        assert_eq!(ders(&grant.chain).len(), 3);
    }
}
