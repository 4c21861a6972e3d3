//! `phalanx demo --once`: each part is played once and checked.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use futures_util::future::try_join_all;
use serde_json::Value;

use super::attacks::{ATTACKS, Attack, VARIANTS};
use super::honest::{ERRANDS, Errand};
use super::http::{Shot, encode};
use super::stage::{Node, Stage};
use super::table::{Row, Table};
use super::wait::until;

/// Plays everything; a part that goes wrong is a fault in its row, not the end.
pub(super) async fn play(stage: &mut Stage) -> anyhow::Result<Table> {
    let mut table = Table::default();
    for (attack, attacker) in ATTACKS.iter().zip(ATTACKERS) {
        let mut row = Row::new(attack.name);
        if let Err(error) = attack_row(stage, attack, attacker.parse()?, &mut row).await {
            row.fault(format!("{error:#}"));
        }
        table.rows.push(row);
    }
    for (errand, number) in ERRANDS.iter().zip(1..) {
        let client = IpAddr::from([203, 0, 113, number]);
        let mut row = Row::new(&format!("a visitor: {}", errand.name));
        match errand_row(stage, errand, client).await {
            Ok(()) => row.protected = format!("works on {}", all_nodes(stage)),
            Err(error) => row.fault(format!("{error:#}")),
        }
        table.rows.push(row);
    }
    type Part = for<'a> fn(
        &'a mut Stage,
        &'a mut Row,
    ) -> futures_util::future::LocalBoxFuture<'a, anyhow::Result<()>>;
    let parts: [(&str, Part); 5] = [
        ("the office: open the admin page", |stage, row| Box::pin(office_row(stage, row))),
        ("a page elsewhere makes a visitor send attacks", |stage, row| Box::pin(cross_site_row(stage, row))),
        ("an operator undoes the first ban, at another node", |stage, row| Box::pin(undo_row(stage, row))),
        ("nats-server is killed", |stage, row| Box::pin(outage_row(stage, row))),
        ("nats-server is back", |stage, row| Box::pin(recovery_row(stage, row))),
    ];
    for (what, part) in parts {
        let mut row = Row::new(what);
        if let Err(error) = part(stage, &mut row).await {
            row.fault(format!("{error:#}"));
        }
        table.rows.push(row);
    }
    Ok(table)
}

/// Sends the attack to the shop, where it must succeed, then three times to the first node, which must refuse it; then all
/// other nodes must refuse the attacker.
async fn attack_row(stage: &Stage, attack: &Attack, attacker: IpAddr, row: &mut Row) -> anyhow::Result<()> {
    let shot = attack.shot(0).from(attacker);
    let reply = shot.send(stage.shop).await?;
    match attack.harm(&shot, &reply, stage.shop).await? {
        Some(harm) => row.direct = harm,
        None => bail!("the attack failed at the shop itself: {}", reply.status()),
    }
    let first = stage.nodes.first().context("no node")?;
    let mut sent = Instant::now();
    for variant in 1..VARIANTS {
        sent = Instant::now();
        let id = refused(attack, variant, attacker, first).await?;
        if variant == 1 {
            row.protected = format!("403 {id}, rule {}", rule_of(first, &id).await?);
        }
    }
    if attack.strikes {
        // Another address of the same actor: IPv6 acts by /64.
        let sibling = sibling(attacker);
        let waits = others(stage).iter().map(|node| refused_since(node, sibling, sent));
        row.others_ms = try_join_all(waits).await?.into_iter().reduce(f64::max);
        row.others = match row.others_ms {
            Some(ms) => format!("refused the attacker after {ms:.1} ms"),
            None => "none".to_owned(),
        };
    } else {
        for node in others(stage) {
            refused(attack, 1, attacker, node).await?;
        }
        expect_on_all(stage, attacker, 200).await.context("an access rule must not ban")?;
        row.others = "refuse it too; nobody is banned".to_owned();
    }
    Ok(())
}

/// Sends the attack through a node and makes sure that it was refused with an id, and did no harm.
async fn refused(attack: &Attack, variant: usize, attacker: IpAddr, node: &Node) -> anyhow::Result<String> {
    let shot = attack.shot(variant).from(attacker);
    let reply = shot.send(node.listen).await?;
    if reply.status() != 403 || reply.id().len() != 26 || !reply.text().contains(reply.id()) {
        bail!("{} at {}: {} instead of 403 with an id", shot.target, node.site, reply.status());
    }
    if let Some(harm) = attack.harm(&shot, &reply, node.listen).await? {
        bail!("{} at {}: {harm}", shot.target, node.site);
    }
    Ok(reply.id().to_owned())
}

/// The rule that said most against a request, as the node explains it: where scores are summed, the rule that interrupts only
/// adds up. The record is written behind the request, hence the wait.
async fn rule_of(node: &Node, id: &str) -> anyhow::Result<u64> {
    let what = format!("{} explains {id}", node.site);
    until(&what, EXPLAINED_WITHIN, async || {
        let reply = node.api("GET", &format!("/api/v1/events/{id}")).await?;
        let record = reply.json()?;
        let signals = record.get("signals").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let score = |signal: &&Value| signal.get("score").and_then(Value::as_i64);
        // Of equals the first.
        let most = signals.iter().rev().max_by_key(score);
        match most.and_then(|signal| signal.pointer("/rule/id")).and_then(Value::as_u64) {
            Some(rule) => Ok(Some(rule)),
            None => bail!("{} {record}", reply.status()),
        }
    })
    .await
}

/// Milliseconds from `since` until the node refuses everything that the client asks.
async fn refused_since(node: &Node, client: IpAddr, since: Instant) -> anyhow::Result<f64> {
    answered_since(node, client, 403, since).await
}

async fn answered_since(node: &Node, client: IpAddr, status: u16, since: Instant) -> anyhow::Result<f64> {
    let what = format!("{} answers {client} with {status}", node.site);
    until(&what, SPREAD_WITHIN, async || {
        let reply = Shot::get("/").from(client).send(node.listen).await?;
        Ok((reply.status() == status).then(|| since.elapsed().as_secs_f64() * 1_000.0))
    })
    .await
}

/// The errand on every node, by one visitor whose cookies come along.
async fn errand_row(stage: &Stage, errand: &Errand, client: IpAddr) -> anyhow::Result<()> {
    for node in &stage.nodes {
        for step in (errand.steps)() {
            let shot = step.shot().from(client);
            step.check(&shot, node.listen).await.with_context(|| format!("at {}", node.site))?;
        }
    }
    Ok(())
}

async fn office_row(stage: &mut Stage, row: &mut Row) -> anyhow::Result<()> {
    for node in &stage.nodes {
        let reply = Shot::get("/admin").from(OFFICE).send(node.listen).await?;
        if reply.status() != 200 {
            bail!("{} at {}", reply.status(), node.site);
        }
    }
    row.protected = format!("works on {}", all_nodes(stage));
    Ok(())
}

/// What a browser sends for `<img src="http://shop/search?q=<script>...">` on somebody else's page.
async fn cross_site_row(stage: &mut Stage, row: &mut Row) -> anyhow::Result<()> {
    let first = stage.nodes.first().context("no node")?;
    for n in 0..6 {
        let target = format!("/search?q={}", encode(&format!("<script>alert({n})</script>")));
        let shot = Shot::get(target)
            .from(INNOCENT)
            .with("Referer", "http://elsewhere.example/")
            .with("Sec-Fetch-Site", "cross-site")
            .with("Sec-Fetch-Mode", "no-cors")
            .with("Sec-Fetch-Dest", "image");
        let status = shot.send(first.listen).await?.status();
        if status != 403 {
            bail!("an attack in a cross-site image was answered with {status}");
        }
    }
    row.protected = "the 6 attacks are refused, the visitor is not".to_owned();
    expect_on_all(stage, INNOCENT, 200).await
}

/// Undoes the first attacker's ban at the last node; every node must let it in again.
async fn undo_row(stage: &mut Stage, row: &mut Row) -> anyhow::Result<()> {
    let attacker: IpAddr = ATTACKERS.first().context("no attacker")?.parse()?;
    let last = stage.nodes.last().context("no node")?;
    let list = last.api("GET", "/api/v1/decisions").await?.json()?;
    let id = decision_about(&list, attacker).with_context(|| format!("no ban of {attacker} in {list}"))?;
    let asked = Instant::now();
    let reply = last.api("DELETE", &format!("/api/v1/decisions/{id}?reason=demo")).await?;
    if reply.status() != 200 {
        bail!("undo at {}: {} {}", last.site, reply.status(), reply.text());
    }
    let waits = stage.nodes.iter().map(|node| answered_since(node, attacker, 200, asked));
    row.others_ms = try_join_all(waits).await?.into_iter().reduce(f64::max);
    row.protected = format!("undone at {}", last.site);
    let ms = row.others_ms.unwrap_or_default();
    row.others = format!("let it in again after {ms:.1} ms");
    Ok(())
}

/// Without the fleet's engine bans stay, visitors are served, and a node still bans on its own.
async fn outage_row(stage: &mut Stage, row: &mut Row) -> anyhow::Result<()> {
    let banned: IpAddr = ATTACKERS.get(1).context("no attacker")?.parse()?;
    stage.kill_nats().await;
    expect_on_all(stage, banned, 403).await.context("the ban made before the outage")?;
    expect_on_all(stage, INNOCENT, 200).await.context("a visitor during the outage")?;
    let first = stage.nodes.first().context("no node")?;
    let attack = ATTACKS.first().context("no attack")?;
    let mut sent = Instant::now();
    for variant in 1..VARIANTS {
        sent = Instant::now();
        refused(attack, variant, LATE_ATTACKER, first).await?;
    }
    let ms = refused_since(first, LATE_ATTACKER, sent).await.context("a ban during the outage")?;
    row.protected = format!("bans hold, visitors are served; a new ban after {ms:.1} ms");
    row.others = "learn of the new ban later".to_owned();
    Ok(())
}

/// The ban that was made in the outage reaches the others.
async fn recovery_row(stage: &mut Stage, row: &mut Row) -> anyhow::Result<()> {
    stage.start_nats_again().await?;
    let back = Instant::now();
    let waits = others(stage).iter().map(|node| refused_since(node, LATE_ATTACKER, back));
    row.others_ms = try_join_all(waits).await?.into_iter().reduce(f64::max);
    if let Some(ms) = row.others_ms {
        row.others = format!("refused that attacker after {ms:.0} ms");
    }
    row.protected = "nothing to do".to_owned();
    Ok(())
}

/// Asks every node for the first page in the name of a client.
async fn expect_on_all(stage: &Stage, client: IpAddr, status: u16) -> anyhow::Result<()> {
    for node in &stage.nodes {
        let reply = Shot::get("/").from(client).send(node.listen).await?;
        if reply.status() != status {
            bail!("{client} got {} instead of {status} at {}", reply.status(), node.site);
        }
    }
    Ok(())
}

/// The id of the decision about an address, in a list from the API.
fn decision_about(list: &Value, client: IpAddr) -> Option<&str> {
    let text = client.to_string();
    let about = |decision: &&Value| {
        let actor = decision.get("actor");
        let value = actor.and_then(|actor| actor.get("value")).or(actor);
        value.and_then(Value::as_str).is_some_and(|value| value == text)
    };
    list.as_array()?.iter().find(about)?.get("id")?.as_str()
}

fn others(stage: &Stage) -> &[Node] {
    stage.nodes.get(1..).unwrap_or_default()
}

fn all_nodes(stage: &Stage) -> String {
    match stage.nodes.len() {
        1 => "the node".to_owned(),
        n => format!("all {n} nodes"),
    }
}

/// The next address within the same actor: the same for IPv4, another in the /64 for IPv6.
fn sibling(client: IpAddr) -> IpAddr {
    match client {
        IpAddr::V4(_) => client,
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() ^ 0xff).into()),
    }
}

/// One attacker per attack, all from documentation networks.
const ATTACKERS: [&str; 7] = [
    "192.0.2.66",
    "198.51.100.23",
    "192.0.2.131",
    "2001:db8:bad:1::66",
    "198.51.100.140",
    "2001:db8:bad:2::1",
    "192.0.2.200",
];

const LATE_ATTACKER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(198, 51, 100, 77));
const INNOCENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 90));

/// Inside the network that `demo/rules/admin.conf` lets in.
const OFFICE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 242));

/// Long against the milliseconds that are expected; it covers a reconnect to nats-server.
const SPREAD_WITHIN: Duration = Duration::from_secs(20);
const EXPLAINED_WITHIN: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_ban_is_found_by_its_actor() {
        let list = json!([
            {"id": "A", "actor": {"kind": "ip", "value": "192.0.2.1"}},
            {"id": "B", "actor": {"kind": "ip", "value": "192.0.2.66"}},
        ]);
        assert_eq!(decision_about(&list, "192.0.2.66".parse().unwrap()), Some("B"));
        assert_eq!(decision_about(&list, "192.0.2.67".parse().unwrap()), None);
    }

    #[test]
    fn an_ipv6_sibling_is_another_address_of_the_same_actor() {
        let client: IpAddr = "2001:db8:bad:1::66".parse().unwrap();
        assert_ne!(sibling(client), client);
        assert_eq!(phalanx_model::Actor::ip(sibling(client)), phalanx_model::Actor::ip(client));
    }
}
