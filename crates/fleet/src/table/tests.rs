//! What goes in comes out, in the right order, and leaves nothing behind.

use super::*;
use phalanx_model::{Actor, AuthorRole};
use proptest::prelude::*;

fn decision(node: u8, ip: u8, created_at_ms: u64, lasts_ms: u64, usual: bool) -> Arc<Decision> {
    let id = DecisionId::from_parts(created_at_ms + u64::from(!usual), 3, u64::from(ip));
    Arc::new(Decision {
        id,
        actor: if ip > 200 {
            Actor::client([192, 0, 2, 1].into(), ip.into())
        } else {
            Actor::ip([192, 0, 2, ip].into())
        },
        kind: DecisionKind::Ban,
        author: Author { site: "fra".into(), node: format!("n{node}").into(), role: AuthorRole::Node },
        reason: format!("reason {}", ip % 3),
        evidence: ip.is_multiple_of(2).then_some(id),
        confidence_percent: ip,
        created_at_ms,
        expires_at_ms: created_at_ms + lasts_ms,
        version: created_at_ms << 16,
    })
}

proptest! {
    #[test]
    fn what_is_put_in_comes_out_as_it_was_and_first_what_expires_first(
        all in proptest::collection::vec((0u8..3, any::<u8>(), 0u64..1 << 40, 0u64..1 << 33, any::<bool>()), 1..80),
        taken in proptest::collection::vec(any::<prop::sample::Index>(), 0..80),
    ) {
        let mut table = Table::default();
        let mut held: Vec<Arc<Decision>> = Vec::new();
        let check = |table: &Table, held: &[Arc<Decision>]| {
            prop_assert_eq!(table.len(), held.len());
            for node in 0..3 {
                let author = decision(node, 0, 0, 0, true).author.clone();
                let own: Vec<&Arc<Decision>> = held.iter().filter(|of| of.author == author).collect();
                let rows = table.of_author(&author);
                prop_assert_eq!(rows.len(), own.len());
                let first = rows.first().and_then(|id| table.order(*id));
                prop_assert_eq!(first, own.iter().map(|of| order_of(of)).min());
            }
            Ok(())
        };
        for (node, ip, created, lasts, usual) in all {
            let new = decision(node, ip, created, lasts, usual);
            if table.register(&new).is_none() {
                table.insert(&new);
                held.push(new);
                check(&table, &held)?;
            }
        }
        for one in &held {
            let id = table.register(one).unwrap();
            prop_assert_eq!(table.decision(id), Some(Arc::clone(one)));
            prop_assert_eq!(table.rank(id), Some(rank_of(one)));
            prop_assert!(table.about(&one.actor.key()).any(|other| other == id));
        }
        for index in taken {
            if held.is_empty() { break; }
            let gone = held.swap_remove(index.index(held.len()));
            let id = table.register(&gone).unwrap();
            prop_assert_eq!(table.remove(id), Some(gone.clone()));
            prop_assert_eq!(table.register(&gone), None);
            check(&table, &held)?;
        }
        while let Some(gone) = held.pop() {
            let id = table.register(&gone).unwrap();
            table.remove(id);
        }
        prop_assert_eq!((table.len(), table.rows.made, table.authors.len(), table.first.len()), (0, 0, 0, 0));
    }
}

#[test]
fn decisions_as_nodes_make_them_are_packed() {
    let mut table = Table::default();
    for ip in 0..=255 {
        table.insert(&decision(1, ip, 1_800_000_000_000, 86_400_000, true));
    }
    assert_eq!((table.len(), table.rows.unusual.len(), table.reasons.take("reason 1")), (256, 0, 1));
}

#[test]
fn places_are_used_again() {
    let mut table = Table::default();
    table.insert(&decision(1, 1, 5, 5, true));
    for n in 0..5_000u64 {
        let one = decision(1, 2, n, n + 1, n.is_multiple_of(2));
        table.insert(&one);
        let id = table.register(&one).unwrap();
        table.remove(id);
    }
    assert_eq!((table.len(), table.rows.made, table.rows.chunks.len()), (1, 2, 1));
}
