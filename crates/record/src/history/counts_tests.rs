//! Counts on their way into a control node's copy: lost, repeated, in another order, by others, forged.

use std::path::Path;
use std::sync::Arc;

use phalanx_model::limits::TRAFFIC_HOURS_MAX;
use phalanx_model::{AccessEvent, Action, Clock, Reason, RequestId, Verdict};
use phalanx_trust::Sealer;
use proptest::prelude::*;

use super::super::store::Store;
use super::super::{Copies, CopySettings, NotTaken};
use super::*;
use crate::traffic::{By, HOUR_MS, Tally, Traffic, TrafficQuery};

/// The end of an hour.
const NOW: u64 = 1_785_585_600_000;

struct Fixed(u64);

impl Clock for Fixed {
    fn now_ms(&self) -> u64 {
        self.0
    }
}

/// A request, as far as it is counted here.
#[derive(Debug, Clone, Copy)]
struct One {
    at_ms: u64,
    app: u8,
    refused: bool,
}

fn access(one: &One) -> AccessEvent {
    let (action, status) = if one.refused { (Action::Deny, 403) } else { (Action::Allow, 200) };
    let verdict = Verdict { action, ..Verdict::allow(Reason::Clean) };
    serde_json::from_value(serde_json::json!({
        "id": RequestId::from_parts(one.at_ms, 1, 1), "at_ms": one.at_ms, "app": format!("app-{}", one.app),
        "client": "192.0.2.7", "peer": "192.0.2.7", "method": "GET", "host": "h", "target": "/", "protocol": "HTTP/1.1",
        "user_agent": "", "referer": "", "status": status, "request_bytes": 0, "response_bytes": 0, "duration_us": 0,
        "upstream_us": 0, "plan_version": 1, "view_revision": 1, "verdict": verdict,
    }))
    .unwrap()
}

/// A node's history, which is gone with its folder.
struct Node {
    #[expect(dead_code, reason = "lives as long as the history")]
    dir: tempfile::TempDir,
    store: Store,
}

impl Node {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let sealer = Arc::new(Sealer::ephemeral().unwrap());
        let mut store = Store::new(&dir.path().join("history.db"), sealer, None, (1_000, 1 << 30)).unwrap();
        store.open(NOW).unwrap();
        Self { dir, store }
    }

    fn counts(&mut self, requests: &[One], now_ms: u64) {
        let mut tally = Tally::default();
        requests.iter().for_each(|one| tally.add(&access(one), None, "NL".parse().ok()));
        self.store.write_traffic(&tally, now_ms).unwrap();
    }

    fn history(&self) -> History {
        History::new(self.store.shared(), None)
    }

    fn told(&self) -> u64 {
        self.history().counts_told().unwrap()
    }

    /// Sends until the reader has all.
    fn drain(&self, copies: &Copies, name: &str) {
        while let Some(batch) =
            self.history().counts_after(&copies.counts_mark(name, None).unwrap(), 2_000).unwrap()
        {
            let batch = CountsBatch::from_bytes(&batch.to_bytes()).unwrap();
            copies.take_counts(name, None, &batch).unwrap();
        }
    }
}

fn copies_with(dir: &Path, now_ms: u64, bytes_max: u64) -> Copies {
    Copies::open(CopySettings {
        path: dir.join("copies.db"),
        site: "fra".into(),
        sealer: Arc::new(Sealer::load_or_create(&dir.join("seal.key")).unwrap()),
        locate: None,
        clock: Arc::new(Fixed(now_ms)),
        bytes_max,
    })
    .unwrap()
}

fn copies(dir: &Path) -> Copies {
    copies_with(dir, NOW, 1 << 30)
}

fn relay(from: &Copies, name: &str, node: &str, to: &Copies) {
    while let Some(batch) =
        from.copied_counts_after(node, &to.counts_mark(node, Some(name)).unwrap(), 2_000).unwrap()
    {
        to.take_counts(node, Some(name), &CountsBatch::from_bytes(&batch.to_bytes()).unwrap()).unwrap();
    }
}

fn hour(by: By) -> TrafficQuery {
    TrafficQuery::new(NOW - HOUR_MS, NOW, 60, NOW, by)
}

fn day(by: By) -> TrafficQuery {
    TrafficQuery::new(NOW - 24 * HOUR_MS, NOW, 24, NOW, by)
}

fn copied(copies: &Copies, query: &TrafficQuery, told: &[u64]) -> Traffic {
    copies.history().copied_traffic(query, told).unwrap()
}

/// What a copy answers is what the node answers, by everything that can be asked.
fn same(node: &Node, copies: &Copies) {
    for query in [hour, day] {
        for by in [By::Action, By::App, By::Country, By::Status, By::Rule, By::Class, By::Node] {
            for (refused, apps) in [(false, None), (true, None), (false, Some(vec!["app-1".to_owned()]))] {
                let query = TrafficQuery { refused, apps, ..query(by) };
                let mut own = node.history().traffic(&query).unwrap();
                let mut theirs = copied(copies, &query, &[node.told()]);
                if by == By::Node {
                    own.series.iter_mut().for_each(|one| one.key = "b".into());
                }
                (own.begins_ms, theirs.begins_ms) = (None, None);
                if matches!(by, By::Country | By::Rule) && query.step_ms == HOUR_MS {
                    // What comes late for a minute that is over is one of the others there, and not yet in its hour.
                    own.keep_largest(0);
                    theirs.keep_largest(0);
                }
                assert_eq!(own, theirs, "{query:?}");
            }
        }
    }
}

fn requests() -> impl Strategy<Value = Vec<One>> {
    let one = (1..3 * HOUR_MS, 0..3_u8, any::<bool>());
    prop::collection::vec(one.prop_map(|(ago, app, refused)| One { at_ms: NOW - ago, app, refused }), 1..30)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn a_copy_tells_what_its_node_tells_in_whatever_order_batches_come(
        steps in prop::collection::vec((requests(), 0..5_u8, 0..8_usize), 1..8),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let (mut node, mut reader) = (Node::new(), copies(dir.path()));
        let mut on_the_way: Vec<CountsBatch> = Vec::new();
        for (requests, then, which) in steps {
            node.counts(&requests, NOW);
            let mark = reader.counts_mark("b", None).unwrap();
            let next = node.history().counts_after(&mark, 1_500).unwrap();
            on_the_way.extend(next.clone());
            match then {
                // It arrives, and comes again below.
                0 | 1 => {
                    let after = reader.take_counts("b", None, &next.unwrap()).unwrap();
                    prop_assert_eq!(after, reader.counts_mark("b", None).unwrap());
                }
                2 => {
                    if let Some(batch) = on_the_way.get(which) {
                        let _ = reader.take_counts("b", None, batch);
                    }
                }
                // As another control node had it then, of an earlier moment perhaps.
                3 => {
                    if let Some(batch) = on_the_way.get(which) {
                        let after = reader.counts_mark("b", Some("c")).unwrap().seq;
                        let batch = CountsBatch { epoch: 9, after, upto: after + 1, ..batch.clone() };
                        reader.take_counts("b", Some("c"), &batch).unwrap();
                    }
                }
                _ => reader = copies(dir.path()),
            }
        }
        node.drain(&reader, "b");
        same(&node, &reader);
        for batch in &on_the_way {
            let _ = reader.take_counts("b", None, batch);
        }
        same(&node, &reader);
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
        let _ = CountsBatch::from_bytes(&bytes);
        let _ = CountsBatch::from_bytes(&[&[FORM][..], &bytes].concat());
    }
}

fn some(count: u64, app: u8) -> Vec<One> {
    (0..count).map(|n| One { at_ms: NOW - 20 * MINUTE_MS - n, app, refused: n % 3 == 0 }).collect()
}

#[test]
fn a_node_that_lost_its_disk_counts_on_beside_what_it_counted_before() {
    let dir = tempfile::tempdir().unwrap();
    let reader = copies(dir.path());
    let mut told = Vec::new();
    for count in [5, 7] {
        let mut node = Node::new();
        node.counts(&some(count, 1), NOW);
        node.drain(&reader, "b");
        same(&node, &reader);
        told.push(node.told());
    }
    assert_eq!(copied(&reader, &hour(By::Node), &told).totals.requests, 12);
    let kept = reader.history().copied_counts(NOW - HOUR_MS, 9).unwrap();
    assert_eq!(
        kept.iter().map(|one| (one.told, one.node.as_str())).collect::<Vec<_>>(),
        [(told[0], "b"), (told[1], "b")]
    );
    assert!(reader.history().copied_counts(NOW, 9).unwrap().is_empty(), "nothing of later");
}

#[test]
fn a_node_with_another_name_is_told_once() {
    let dir = tempfile::tempdir().unwrap();
    let reader = copies(dir.path());
    let mut node = Node::new();
    node.counts(&some(5, 1), NOW);
    node.drain(&reader, "before");
    node.counts(&some(4, 2), NOW);
    node.drain(&reader, "b");
    let traffic = copied(&reader, &hour(By::Node), &[node.told(), node.told()]);
    assert_eq!(traffic.totals.requests, 9);
    assert_eq!(traffic.series.iter().map(|one| one.key.as_str()).collect::<Vec<_>>(), ["b"]);
    same(&node, &reader);
}

#[test]
fn what_one_control_node_has_of_a_lost_node_another_takes_over_and_passes_on() {
    let folders: [_; 3] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let [first, second, third] = folders.each_ref().map(|dir| copies(dir.path()));
    let mut node = Node::new();
    node.counts(&some(5, 1), NOW);
    node.drain(&second, "b");
    let early = second.counts_mark("b", None).unwrap();
    node.counts(&some(40, 2), NOW);
    node.drain(&first, "b");
    assert!(first.counts_are_ahead("b", &early).unwrap() && !second.counts_are_ahead("b", &early).unwrap());
    relay(&first, "a", "b", &second);
    // What the second had of before does not come back over what is later.
    relay(&second, "c", "b", &first);
    relay(&second, "c", "b", &third);
    for reader in [&first, &second, &third] {
        same(&node, reader);
        let told = &reader.nodes().unwrap()[0];
        assert!(told.node == "b" && told.rows == 0 && told.counts > 0, "{told:?}");
    }
}

#[test]
fn minutes_of_an_hour_that_its_node_did_not_live_to_close_stay_as_long_as_hours() {
    let dir = tempfile::tempdir().unwrap();
    let mut node = Node::new();
    node.counts(&some(9, 1), NOW);
    node.drain(&copies(dir.path()), "b");
    let told = node.told();
    let counted = |later_ms: u64| {
        let reader = copies_with(dir.path(), NOW + later_ms, 1 << 30);
        // Whatever comes deletes what is too old.
        for _ in 0..8 {
            let mark = reader.counts_mark("d", None).unwrap();
            let more = CountsBatch { epoch: 5, after: mark.seq, upto: mark.seq + 1, buckets: Vec::new() };
            reader.take_counts("d", None, &more).unwrap();
        }
        copied(&reader, &day(By::Node), &[told]).totals.requests
    };
    assert_eq!(counted(80 * 24 * HOUR_MS), 9);
    assert_eq!(counted(TRAFFIC_HOURS_MAX as u64 * HOUR_MS + 2 * HOUR_MS), 0);
}

fn bucket(life: i64, at: i64) -> Counted {
    Counted { life, rev: 7, step: 0, at, apps: vec!["shop".into()], rows: vec![CountedRow(0, 0, 0, 3, 0)] }
}

#[test]
fn counts_that_no_node_can_have_are_not_read() {
    let at = (NOW / MINUTE_MS).cast_signed() - 5;
    let good = CountsBatch { epoch: 5, after: 0, upto: 7, buckets: vec![bucket(5, at)] };
    let reads = |change: &dyn Fn(&mut CountsBatch)| {
        let mut batch = good.clone();
        change(&mut batch);
        CountsBatch::from_bytes(&batch.to_bytes()).is_some()
    };
    assert!(reads(&|_| {}));
    let row = |row: CountedRow| reads(&|batch| batch.buckets[0].rows = vec![row]);
    assert!(row(CountedRow(2, -1, -1, 1, 1)) && row(CountedRow(5, NO_APP, 0, COUNT_MAX, 0)));
    for wrong in [
        CountedRow(6, 0, 0, 1, 0),
        CountedRow(0, 1, 0, 1, 0),
        CountedRow(0, -3, 0, 1, 0),
        CountedRow(0, 0, 0, 1, 2),
        CountedRow(0, 0, 0, COUNT_MAX + 1, 0),
        CountedRow(2, 0, 7, 1, 0),
    ] {
        assert!(!row(wrong), "{wrong:?}");
    }
    let wrong: [&dyn Fn(&mut CountsBatch); 7] = [
        &|batch| batch.after = 8,
        &|batch| batch.after = -1,
        &|batch| batch.upto = NUMBERS_MAX + 1,
        &|batch| batch.buckets[0].step = 2,
        &|batch| batch.buckets[0].at = i64::MAX,
        &|batch| batch.buckets[0].rev = i64::MAX,
        &|batch| batch.buckets[0].apps = vec!["a".repeat(200)],
    ];
    assert!(wrong.iter().all(|change| !reads(change)));
}

#[test]
fn a_node_writes_counts_of_its_own_database_and_of_times_that_may_be() {
    let dir = tempfile::tempdir().unwrap();
    let reader = copies(dir.path());
    let now = (NOW / MINUTE_MS).cast_signed();
    let batch = |buckets| CountsBatch { epoch: 5, after: 0, upto: 7, buckets };
    let foreign = reader.take_counts("b", None, &batch(vec![bucket(5, now - 1), bucket(6, now - 1)]));
    assert!(matches!(foreign, Err(NotTaken::Refused(_))));
    assert_eq!(reader.counts_mark("b", None).unwrap(), Mark::default());
    let gap = reader.take_counts("b", None, &CountsBatch { after: 3, ..batch(Vec::new()) });
    assert!(matches!(gap, Err(NotTaken::OutOfOrder)));
    let of_the_future = bucket(5, now + 9);
    let of_long_ago = bucket(5, now - 91 * 24 * 60);
    reader.take_counts("b", None, &batch(vec![of_the_future, bucket(5, now - 1), of_long_ago])).unwrap();
    assert_eq!(reader.nodes().unwrap()[0].counts, 1);
}

#[test]
fn who_counts_much_deletes_his_own_and_of_his_databases_only_the_last_stay() {
    let dir = tempfile::tempdir().unwrap();
    let reader = copies_with(dir.path(), NOW, 400_000);
    let now = (NOW / MINUTE_MS).cast_signed();
    let send = |node: &str, life: i64, count: i64| {
        for at in 0..count {
            let one = Counted { rev: at + life, ..bucket(life, now - count + at) };
            let batch = CountsBatch { epoch: life, after: at, upto: at + 1, buckets: vec![one] };
            reader.take_counts(node, None, &batch).unwrap();
        }
    };
    send("quiet", 1, 50);
    send("loud", 2, 600);
    let counts =
        |node: &str| reader.nodes().unwrap().iter().find(|one| one.node == node).map_or(0, |one| one.counts);
    assert_eq!(counts("quiet"), 50);
    assert!((50..600).contains(&counts("loud")), "{}", counts("loud"));
    let newest: i64 = reader
        .connected(|db| {
            let newest = "SELECT max(at) FROM counts JOIN counts_lives USING (copy) WHERE node = 'loud'";
            db.query_row(newest, [], |row| row.get(0))
        })
        .unwrap();
    assert_eq!(newest, now - 1, "the newest stays");
    for life in 100..140 {
        send("again", life, 1);
    }
    assert_eq!(
        reader.history().copied_counts(0, 99).unwrap().iter().filter(|one| one.node == "again").count(),
        16
    );
}

#[test]
fn more_apps_than_fit_into_a_batch_are_added_up_and_nothing_is_left_out() {
    let row = |app, value| CountedRow(Dimension::Rule as u8, app, value, 2, 1);
    let apps: Vec<String> = (0..64).map(|app| format!("an-app-with-a-long-name-{app}")).collect();
    let mut rows: Vec<CountedRow> =
        (0..64).flat_map(|app| (0..24).map(move |rule| row(app, 900_000_000 + app * 100 + rule))).collect();
    rows.extend((0..64).map(|app| CountedRow(Dimension::Action as u8, app, 5, 100 + app.unsigned_abs(), 0)));
    let whole = Counted { life: 1, rev: 1, step: 0, at: 1, apps, rows };
    let sums = |counted: &Counted| {
        let of = |dimension: Dimension| counted.rows.iter().filter(move |row| row.0 == dimension as u8);
        [Dimension::Rule, Dimension::Action].map(|one| of(one).map(|row| row.3 + row.4).sum::<u64>())
    };
    let fitted = whole.clone().fitted();
    assert!(whole.bytes() > COUNTED_BYTES_MAX && fitted.bytes() <= COUNTED_BYTES_MAX);
    assert_eq!(sums(&fitted), sums(&whole));
    assert!(fitted.apps.len() >= 16 && fitted.apps[0].ends_with("-63"), "{:?}", fitted.apps);
    assert!(fitted.is_sane());
}

#[test]
fn counts_of_a_version_without_numbers_are_read_and_what_such_a_version_adds() {
    let dir = tempfile::tempdir().unwrap();
    let (reader, mut node) = (copies(dir.path()), Node::new());
    node.counts(&some(9, 1), NOW + 5 * HOUR_MS);
    let path = node.store.shared().path.clone();
    let change = |sql: &str| {
        let db = rusqlite::Connection::open(&path).unwrap();
        let version: i64 = db.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        assert_eq!(version, 2, "a version before opens it");
        db.execute_batch(sql).unwrap();
    };
    let again = |node: Node| {
        let sealer = Arc::clone(&node.store.shared().sealer);
        let mut store = Store::new(&path, sealer, None, (1_000, 1 << 30)).unwrap();
        store.open(NOW).unwrap();
        Node { store, ..node }
    };
    change("DROP TABLE counts_spool; DROP TABLE counts_changes;");
    let node = again(node);
    node.drain(&reader, "b");
    same(&node, &reader);
    change(
        "UPDATE traffic SET n = n + 1 WHERE step = 1 OR at = (SELECT max(at) FROM traffic WHERE step = 0)",
    );
    let node = again(node);
    node.drain(&reader, "b");
    let query = TrafficQuery::new(NOW - HOUR_MS, NOW, 60, NOW, By::Action);
    assert_eq!(
        copied(&reader, &query, &[node.told()]).totals,
        node.history().traffic(&query).unwrap().totals
    );
}
