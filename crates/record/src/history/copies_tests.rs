//! A node's history on its way into a control node's copy: lost, repeated, in another order, cut short, forged.

use std::collections::BTreeMap;
use std::path::Path;

use phalanx_model::{Actor, Reason, Strike, SystemClock, Verdict};
use proptest::prelude::*;

use super::super::store::Store;
use super::super::{Filter, Item};
use super::*;

fn id(node: &str, n: u64) -> RequestId {
    RequestId::from_parts(1_785_585_600_000 + n, node_tag("fra", node), n)
}

fn record(node: &str, n: u64) -> RecordedRequest {
    let id = id(node, n);
    let access = serde_json::from_value(serde_json::json!({
        "id": id, "at_ms": id.at_ms(), "app": "shop", "client": "192.0.2.7", "peer": "192.0.2.7", "method": "GET", "host": "h",
        "target": "/", "protocol": "HTTP/1.1", "user_agent": "", "referer": "", "status": 403, "request_bytes": 0,
        "response_bytes": 0, "duration_us": 0, "upstream_us": 0, "plan_version": 1, "view_revision": 1,
        "verdict": Verdict::deny(Reason::Clean, 403),
    }));
    RecordedRequest::new(&"fra".into(), &node.into(), access.unwrap(), Vec::new(), Vec::new())
}

fn strike(node: &str, n: u64) -> Consequence {
    let strike = Strike { actor: Actor::ip([192, 0, 2, 7].into()), request: id(node, n), count: 1, at_ms: n };
    Consequence::Strike { strike }
}

fn one_row(node: &str) -> Vec<Row> {
    vec![Row { seq: 1, kind: Kind::Request, body: serde_json::to_vec(&record(node, 7)).unwrap() }]
}

fn items(store: &Store, node: &str, numbers: std::ops::Range<u64>) -> Vec<Item> {
    let mut items = Vec::new();
    for n in numbers {
        items.push(store.request_item(&record(node, n)).unwrap());
        if n % 3 == 0 {
            items.extend(store.consequence_item(&strike(node, n)).unwrap());
        }
    }
    items
}

/// The history of a node, with room for so many requests.
fn store(dir: &Path, sealer: &Arc<Sealer>, rows_max: u64) -> Store {
    Store::new(&dir.join("history.db"), Arc::clone(sealer), None, (rows_max, 1 << 30)).unwrap()
}

fn copies(dir: &Path, sealer: &Arc<Sealer>, bytes_max: u64) -> Copies {
    Copies::open(CopySettings {
        path: dir.join("copies.db"),
        site: "fra".into(),
        sealer: Arc::clone(sealer),
        locate: None,
        clock: Arc::new(SystemClock),
        bytes_max,
    })
    .unwrap()
}

fn sealer() -> Arc<Sealer> {
    Arc::new(Sealer::ephemeral().unwrap())
}

/// Sends until the reader has all.
fn drain(history: &History, copies: &Copies, node: &str, bytes: usize) {
    while let Some(batch) =
        history.batch_after(&copies.mark(node, None).unwrap(), node_tag("fra", node), bytes).unwrap()
    {
        copies.take(node, None, &batch).unwrap();
    }
}

/// How often each request is there, and how much followed from it.
fn kept(copies: &Copies) -> BTreeMap<u64, (usize, usize)> {
    let history = copies.history();
    let mut kept = BTreeMap::new();
    let mut filter = Filter { limit: 500, ..Filter::default() };
    loop {
        let found = history.search(&filter).unwrap();
        for one in found.requests {
            let followed = history.consequences(one.id()).unwrap().len();
            let entry = kept.entry(one.access.at_ms - 1_785_585_600_000).or_insert((0, followed));
            entry.0 += 1;
        }
        filter.before = found.next;
        if found.next.is_none() {
            return kept;
        }
    }
}

fn all_once(numbers: std::ops::Range<u64>) -> BTreeMap<u64, (usize, usize)> {
    numbers.map(|n| (n, (1, usize::from(n % 3 == 0)))).collect()
}

/// What happens on the way.
#[derive(Debug, Clone)]
enum Step {
    /// The node records so many requests.
    Record(u64),
    /// A batch of this size arrives.
    Arrives(usize),
    /// A batch is sent and its receipt lost: it comes again later.
    Delayed(usize),
    /// A batch that was on its way arrives, again or late.
    Late(usize),
    /// The control node starts again.
    ReaderRestarts,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(
        prop_oneof![
            4 => (1..20u64).prop_map(Step::Record),
            4 => (1..6_000usize).prop_map(Step::Arrives),
            2 => (1..6_000usize).prop_map(Step::Delayed),
            3 => (0..8usize).prop_map(Step::Late),
            1 => Just(Step::ReaderRestarts),
        ],
        1..40,
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn each_row_is_there_once_whatever_happens_on_the_way(steps in steps()) {
        let (dir, sealer) = (tempfile::tempdir().unwrap(), sealer());
        let mut store = store(dir.path(), &sealer, 1_000_000);
        store.open(1).unwrap();
        let history = History::new(store.shared(), None);
        let mut reader = copies(dir.path(), &sealer, 1 << 30);
        let (mut recorded, mut on_the_way) = (0, Vec::<SpoolBatch>::new());
        for step in steps {
            match step {
                Step::Record(count) => {
                    let batch = items(&store, "b", recorded..recorded + count);
                    store.write(&batch, 1).unwrap();
                    recorded += count;
                }
                Step::Arrives(bytes) => {
                    let mark = reader.mark("b", None).unwrap();
                    if let Some(batch) = history.batch_after(&mark, node_tag("fra", "b"), bytes).unwrap() {
                        let after = reader.take("b", None, &batch).unwrap();
                        prop_assert_eq!(&after, &reader.mark("b", None).unwrap());
                        on_the_way.push(batch);
                    }
                }
                Step::Delayed(bytes) => {
                    on_the_way.extend(history.batch_after(&reader.mark("b", None).unwrap(), node_tag("fra", "b"), bytes).unwrap());
                }
                Step::Late(which) => {
                    if let Some(batch) = on_the_way.get(which) {
                        let _ = reader.take("b", None, batch);
                    }
                }
                Step::ReaderRestarts => reader = copies(dir.path(), &sealer, 1 << 30),
            }
        }
        drain(&history, &reader, "b", 4_000);
        prop_assert_eq!(kept(&reader), all_once(0..recorded));
        let rows = all_once(0..recorded).values().map(|(one, followed)| (one + followed) as u64).sum::<u64>();
        let told = reader.nodes().unwrap();
        prop_assert_eq!(told.first().map_or((0, 0), |one| (one.rows, one.missed)), (rows, 0));
    }
}

#[test]
fn a_history_that_begins_anew_is_read_from_its_beginning() {
    let (dir, sealer) = (tempfile::tempdir().unwrap(), sealer());
    let reader = copies(dir.path(), &sealer, 1 << 30);
    for part in 0..3 {
        let of_node = tempfile::tempdir().unwrap();
        let mut store = store(of_node.path(), &sealer, 1_000);
        let batch = items(&store, "b", part * 10..part * 10 + 10);
        store.write(&batch, 1).unwrap();
        drain(&History::new(store.shared(), None), &reader, "b", 4_000);
    }
    assert_eq!(kept(&reader), all_once(0..30));
}

#[test]
fn a_history_that_was_put_back_from_a_backup_is_read_again_and_nothing_twice() {
    let (dir, sealer) = (tempfile::tempdir().unwrap(), sealer());
    let reader = copies(dir.path(), &sealer, 1 << 30);
    let fill = |dir: &Path, numbers: std::ops::Range<u64>| {
        let mut store = store(dir, &sealer, 1_000);
        let batch = items(&store, "b", numbers);
        store.write(&batch, 1).unwrap();
        History::new(store.shared(), None)
    };
    let (first, backup) = (dir.path().join("first"), dir.path().join("backup"));
    for folder in [&first, &backup] {
        std::fs::create_dir(folder).unwrap();
    }
    drain(&fill(&first, 0..20), &reader, "b", 4_000);
    for file in ["history.db", "history.key", "history.db-wal"] {
        let _ = std::fs::copy(first.join(file), backup.join(file));
    }
    // More is recorded and read; then the disk is as it was, and other requests get the numbers of those.
    drain(&fill(&first, 20..40), &reader, "b", 4_000);
    drain(&fill(&backup, 40..80), &reader, "b", 4_000);
    assert_eq!(kept(&reader), all_once(0..80));
    assert_eq!(reader.nodes().unwrap()[0].missed, 0);
}

#[test]
fn a_reader_that_says_what_cannot_be_does_not_keep_others_from_reading() {
    let (dir, sealer) = (tempfile::tempdir().unwrap(), sealer());
    let mut store = store(dir.path(), &sealer, 1_000);
    let batch = items(&store, "b", 0..20);
    store.write(&batch, 1).unwrap();
    let history = History::new(store.shared(), None);
    let (tag, begin) = (node_tag("fra", "b"), Mark::default());
    let first = history.batch_after(&begin, tag, 4_000).unwrap().unwrap();
    let impossible = |epoch| history.batch_after(&Mark { epoch, seq: 999, last: None }, tag, 4_000).unwrap();
    let anew = impossible(first.epoch).unwrap();
    assert!(anew.epoch != first.epoch && anew.after == 0);
    assert_eq!(impossible(anew.epoch), None);
    assert_eq!(history.batch_after(&begin, tag, 4_000).unwrap().unwrap().epoch, anew.epoch);
}

#[test]
fn rows_that_a_node_deleted_before_they_were_read_are_counted() {
    let (dir, sealer) = (tempfile::tempdir().unwrap(), sealer());
    let reader = copies(dir.path(), &sealer, 1 << 30);
    let mut store = store(dir.path(), &sealer, 64);
    let history = History::new(store.shared(), None);
    let record = |store: &mut Store, numbers: std::ops::Range<u64>| {
        let only: Vec<_> = numbers.map(|n| store.request_item(&record("b", n)).unwrap()).collect();
        store.write(&only, 1).unwrap();
        store.prune().unwrap();
    };
    record(&mut store, 0..100);
    // What was deleted before anybody asked is not missed.
    drain(&history, &reader, "b", 4_000);
    assert_eq!(reader.nodes().unwrap()[0].missed, 0);
    for step in 1..4 {
        record(&mut store, step * 100..step * 100 + 100);
    }
    drain(&history, &reader, "b", 4_000);
    let told = &reader.nodes().unwrap()[0];
    assert_eq!((told.rows, told.missed), (2 * 63, 300 - 63));
}

#[test]
fn a_node_that_is_gone_and_of_which_nothing_is_left_is_forgotten_and_no_other() {
    let (dir, sealer) = (tempfile::tempdir().unwrap(), sealer());
    let reader = copies(dir.path(), &sealer, 1 << 30);
    let empty = || SpoolBatch { epoch: 5, after: 0, upto: 3, last: 3, rows: Vec::new() };
    for node in ["gone", "here"] {
        reader.take(node, None, &empty()).unwrap();
    }
    reader.take("b", None, &SpoolBatch { rows: one_row("b"), upto: 1, last: 1, ..empty() }).unwrap();
    reader.forget_empty(&["here".to_owned()]).unwrap();
    let left: Vec<String> = reader.nodes().unwrap().into_iter().map(|one| one.node).collect();
    assert_eq!(left, ["b", "here"]);
    assert_eq!(reader.mark("gone", None).unwrap(), Mark::default());
    assert_eq!(reader.mark("here", None).unwrap().seq, 3);
    // It comes back under its name.
    reader.take("gone", None, &empty()).unwrap();
    assert_eq!(reader.mark("gone", None).unwrap().seq, 3);
}

#[test]
fn a_node_writes_requests_that_it_served_and_no_others() {
    let (dir, sealer) = (tempfile::tempdir().unwrap(), sealer());
    let reader = copies(dir.path(), &sealer, 1 << 30);
    let json = |record: &RecordedRequest| serde_json::to_vec(record).unwrap();
    let of_other = json(&record("c", 1));
    let mut named_b = record("c", 1);
    named_b.node = "b".into();
    let mut other_site = record("b", 1);
    other_site.site = "syd".into();
    let of_consequence = serde_json::to_vec(&strike("c", 1)).unwrap();
    let good = Row { seq: 1, kind: Kind::Request, body: json(&record("b", 7)) };
    for (body, kind) in [
        (of_other, Kind::Request),
        (json(&named_b), Kind::Request),
        (json(&other_site), Kind::Request),
        (b"{}".to_vec(), Kind::Request),
        (of_consequence, Kind::Consequence),
        (b"[]".to_vec(), Kind::Consequence),
    ] {
        let rows = vec![good.clone(), Row { seq: 2, kind, body }];
        let batch = SpoolBatch { epoch: 5, after: 0, upto: 2, last: 2, rows };
        assert!(matches!(reader.take("b", None, &batch), Err(NotTaken::Refused(_))));
        assert_eq!(reader.mark("b", None).unwrap(), Mark::default(), "nothing of it is kept");
        assert!(kept(&reader).is_empty());
    }
    let gap = SpoolBatch { epoch: 5, after: 1, upto: 2, last: 2, rows: Vec::new() };
    assert!(matches!(reader.take("b", None, &gap), Err(NotTaken::OutOfOrder)));
    let batch = SpoolBatch { epoch: 5, after: 0, upto: 1, last: 1, rows: vec![good] };
    reader.take("b", None, &batch).unwrap();
    assert_eq!(kept(&reader).len(), 1);
}

#[test]
fn a_row_of_the_future_or_too_large_is_left_out_and_counted_and_the_rest_is_read() {
    let (dir, sealer) = (tempfile::tempdir().unwrap(), sealer());
    let reader = copies(dir.path(), &sealer, 1 << 30);
    let json = |record: &RecordedRequest| serde_json::to_vec(record).unwrap();
    let mut future = record("b", 1);
    future.access.id = RequestId::from_parts(SystemClock.now_ms() + 3_600_000, node_tag("fra", "b"), 1);
    let bodies = [json(&future), json(&record("b", 7)), vec![b' '; HISTORY_RECORD_BYTES_MAX + 1]];
    let row = |(seq, body)| Row { seq, kind: Kind::Request, body };
    let rows = (1..).zip(bodies).map(row).collect();
    let batch = SpoolBatch { epoch: 5, after: 0, upto: 3, last: 3, rows };
    assert_eq!(reader.take("b", None, &batch).unwrap(), Mark { epoch: 5, seq: 3, last: None });
    assert_eq!(kept(&reader).into_keys().collect::<Vec<_>>(), [7]);
    let told = &reader.nodes().unwrap()[0];
    assert_eq!((told.rows, told.missed), (1, 2));
}

#[test]
fn gaps_that_no_node_can_have_are_refused_and_many_that_it_may_have_stay_a_number() {
    let (dir, sealer) = (tempfile::tempdir().unwrap(), sealer());
    let reader = copies(dir.path(), &sealer, 1 << 30);
    let take = |epoch, after, upto| {
        reader.take("b", None, &SpoolBatch { epoch, after, upto, last: upto, rows: Vec::new() })
    };
    take(1, 0, 1).unwrap();
    assert!(matches!(take(1, 1, i64::MAX), Err(NotTaken::Refused(_))));
    take(1, 1, NUMBERS_MAX).unwrap();
    take(2, 0, 1).unwrap();
    take(2, 1, NUMBERS_MAX).unwrap();
    assert_eq!(reader.nodes().unwrap()[0].missed, NUMBERS_MAX.unsigned_abs());
    // As a sum of integers that became a real number.
    reader.connected(|db| db.execute("UPDATE origins SET missed = 1.8e19", [])).unwrap();
    assert_eq!(reader.nodes().unwrap()[0].missed, NUMBERS_MAX.unsigned_abs());
}

#[test]
fn who_floods_deletes_his_own_and_not_what_others_have() {
    let (dir, sealer) = (tempfile::tempdir().unwrap(), sealer());
    let bytes_max = 400_000;
    let reader = copies(dir.path(), &sealer, bytes_max);
    let send = |node: &str, numbers: std::ops::Range<u64>| {
        let of_node = tempfile::tempdir().unwrap();
        let mut store = store(of_node.path(), &sealer, 1_000_000);
        let batch = items(&store, node, numbers);
        store.write(&batch, 1).unwrap();
        drain(&History::new(store.shared(), None), &reader, node, 40_000);
    };
    send("quiet", 0..60);
    send("loud", 0..2_000);
    send("later", 0..60);
    let told = reader.nodes().unwrap();
    let rows = |node: &str| told.iter().find(|one| one.node == node).unwrap().rows;
    assert_eq!((rows("quiet"), rows("later")), (80, 80));
    assert!(rows("loud") > 80 && told.iter().map(|one| one.bytes).sum::<u64>() <= bytes_max);
    // The newest are there, with the rules that find them and what followed, and nothing else is left behind.
    let history = reader.history();
    assert!(
        history.request(id("loud", 1_999)).unwrap().is_some()
            && history.request(id("loud", 0)).unwrap().is_none()
    );
    let counted: i64 = reader
        .connected(|db| {
            db.query_row(
                "SELECT (SELECT count(*) FROM requests) + (SELECT count(*) FROM consequences)",
                [],
                |row| row.get(0),
            )
        })
        .unwrap();
    assert_eq!(counted.unsigned_abs(), told.iter().map(|one| one.rows).sum::<u64>());
    let used = reader.connected(|db| Ok(super::super::store::used_bytes(db))).unwrap().unwrap();
    assert!(used < bytes_max * 2, "{used}");
}

#[test]
fn a_history_that_is_read_again_pushes_out_nothing_newer() {
    let (dir, sealer) = (tempfile::tempdir().unwrap(), sealer());
    let reader = copies(dir.path(), &sealer, 200_000);
    let read = |numbers: std::ops::Range<u64>, bytes: usize| {
        let of_node = tempfile::tempdir().unwrap();
        let mut store = store(of_node.path(), &sealer, 1_000_000);
        let batch = items(&store, "b", numbers);
        store.write(&batch, 1).unwrap();
        let history = History::new(store.shared(), None);
        let batch = history.batch_after(&reader.mark("b", None).unwrap(), node_tag("fra", "b"), bytes);
        reader.take("b", None, &batch.unwrap().unwrap()).unwrap();
        drain(&history, &reader, "b", bytes);
    };
    read(0..500, 40_000);
    let (before, told) = (kept(&reader), reader.nodes().unwrap());
    assert!(before.len() < 400 && before.contains_key(&499), "{}", before.len());
    // Of a new epoch, from its beginning, and the part of it that is here as well.
    read(0..500, 40_000);
    assert_eq!((kept(&reader), reader.nodes().unwrap()), (before, told));
    read(500..520, 40_000);
    assert!((490..520).all(|n| kept(&reader).contains_key(&n)));
}

#[test]
fn requests_of_one_node_are_found_among_those_of_others_in_bounded_steps() {
    let (dir, sealer) = (tempfile::tempdir().unwrap(), sealer());
    let reader = copies(dir.path(), &sealer, 1 << 30);
    for (node, numbers) in [("rare", 0..3), ("b", 3..253), ("rare", 253..255)] {
        let of_node = tempfile::tempdir().unwrap();
        let mut store = store(of_node.path(), &sealer, 1_000_000);
        let batch = items(&store, node, numbers);
        store.write(&batch, 1).unwrap();
        drain(&History::new(store.shared(), None), &reader, node, 40_000);
    }
    let history = reader.history().passing_over(100);
    let node_tags = Some(vec![node_tag("fra", "nobody"), node_tag("fra", "rare")]);
    let mut filter = Filter { node_tags, ..Filter::default() };
    let mut pages = Vec::new();
    loop {
        let found = history.search(&filter).unwrap();
        pages.push(found.requests.iter().map(|one| one.access.at_ms - 1_785_585_600_000).collect::<Vec<_>>());
        filter.before = found.next;
        if found.next.is_none() {
            break;
        }
    }
    assert_eq!(pages, [vec![254, 253], vec![], vec![2, 1, 0]]);
}

#[test]
fn what_one_control_node_has_of_a_node_another_takes_over() {
    let (dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (sealer, own) = (sealer(), self::sealer());
    let (first, second) = (copies(dir.path(), &sealer, 1 << 30), copies(other.path(), &own, 1 << 30));
    for node in ["b", "d"] {
        let of_node = tempfile::tempdir().unwrap();
        let mut store = store(of_node.path(), &sealer, 1_000_000);
        let batch = items(&store, node, 0..50);
        store.write(&batch, 1).unwrap();
        drain(&History::new(store.shared(), None), &first, node, 4_000);
        // The second heard the beginning of one of them itself.
        if node == "b" {
            let batch = History::new(store.shared(), None)
                .batch_after(&Mark::default(), node_tag("fra", "b"), 4_000)
                .unwrap()
                .unwrap();
            second.take("b", None, &batch).unwrap();
        }
    }
    for node in ["b", "d", "nobody"] {
        while let Some(batch) =
            first.batch_after(node, &second.mark(node, Some("a")).unwrap(), 4_000).unwrap()
        {
            second.take(node, Some("a"), &batch).unwrap();
        }
    }
    assert_eq!(
        second.nodes().unwrap().iter().map(|one| (one.rows, one.missed)).collect::<Vec<_>>(),
        [(67, 0); 2]
    );
    assert!(second.history().request(id("d", 49)).unwrap().is_some());
}

#[test]
fn what_came_from_anothers_copy_goes_on_to_the_next_one() {
    let folders: [_; 3] = std::array::from_fn(|_| tempfile::tempdir().unwrap());
    let sealer = sealer();
    let [first, second, third] = folders.each_ref().map(|dir| copies(dir.path(), &sealer, 1 << 30));
    let fill = |numbers: std::ops::Range<u64>| {
        let of_node = tempfile::tempdir().unwrap();
        let mut store = store(of_node.path(), &sealer, 1_000);
        let batch = items(&store, "b", numbers);
        store.write(&batch, 1).unwrap();
        drain(&History::new(store.shared(), None), &first, "b", 4_000);
    };
    let relay = |from: &Copies, name: &str, to: &Copies| {
        assert!(from.is_ahead("b", &to.mark("b", None).unwrap()).unwrap());
        while let Some(batch) = from.batch_after("b", &to.mark("b", Some(name)).unwrap(), 4_000).unwrap() {
            to.take("b", Some(name), &batch).unwrap();
        }
    };
    assert!(!first.is_ahead("b", &Mark::default()).unwrap());
    fill(0..30);
    let all = first.mark("b", None).unwrap();
    assert!(!first.is_ahead("b", &all).unwrap(), "the reader had all of it from the node");
    // The node is gone, and the control nodes are replaced one after the other.
    relay(&first, "a", &second);
    relay(&second, "c", &third);
    assert_eq!(kept(&third), all_once(0..30));
    // What else comes is nothing to say of this one.
    second.take("d", None, &SpoolBatch { rows: one_row("d"), epoch: 5, after: 0, upto: 1, last: 1 }).unwrap();
    assert_eq!(second.batch_after("b", &third.mark("b", Some("c")).unwrap(), 4_000).unwrap(), None);
    // A node that began anew: who read only its new history lacks the former.
    fill(30..60);
    assert!(first.is_ahead("b", &first.mark("b", None).unwrap()).unwrap());
}

#[test]
fn what_a_node_wrote_under_an_earlier_name_is_left_out() {
    let (dir, sealer) = (tempfile::tempdir().unwrap(), sealer());
    let reader = copies(dir.path(), &sealer, 1 << 30);
    let mut store = store(dir.path(), &sealer, 1_000);
    for (node, numbers) in [("before", 0..20), ("b", 20..40)] {
        let batch = items(&store, node, numbers);
        store.write(&batch, 1).unwrap();
    }
    drain(&History::new(store.shared(), None), &reader, "b", 4_000);
    assert_eq!(kept(&reader), all_once(20..40));
}

#[test]
fn damaged_copies_are_set_aside_and_read_again() {
    let (dir, sealer) = (tempfile::tempdir().unwrap(), sealer());
    let mut store = store(dir.path(), &sealer, 1_000_000);
    let batch = items(&store, "b", 0..50);
    store.write(&batch, 1).unwrap();
    let history = History::new(store.shared(), None);
    drain(&history, &copies(dir.path(), &sealer, 1 << 30), "b", 4_000);
    std::fs::write(dir.path().join("copies.db"), vec![7; 40_000]).unwrap();
    let reader = copies(dir.path(), &sealer, 1 << 30);
    drain(&history, &reader, "b", 4_000);
    assert_eq!(kept(&reader), all_once(0..50));
}

#[test]
fn a_batch_is_read_without_sorting_the_history() {
    let (dir, sealer) = (tempfile::tempdir().unwrap(), sealer());
    let reader = copies(dir.path(), &sealer, 1 << 30);
    let plan: Vec<String> = reader
        .connected(|db| {
            let mut plan = Vec::new();
            for of in ["", "AND origin = 1"] {
                let mut statement = db.prepare(&format!(
                    "EXPLAIN QUERY PLAN SELECT seq, 0, id, body FROM requests WHERE seq > 1 {of} ORDER BY seq LIMIT 9"
                ))?;
                let lines = statement.query_map([], |row| row.get::<_, String>(3))?;
                plan.extend(lines.flatten());
            }
            Ok(plan)
        })
        .unwrap();
    assert!(plan.iter().all(|line| line.contains("SEARCH") && !line.contains("TEMP")), "{plan:?}");
}
