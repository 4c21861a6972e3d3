//! Limits of one node, and of fleets whose news takes its time.

use std::collections::VecDeque;
use std::net::IpAddr;

use phalanx_model::{
    Author, AuthorRole, BodyFraming, CountBatch, CountOf, HeaderField, HttpVersion, KeyCount, RequestHead,
    Span,
};
use proptest::prelude::*;

use super::*;

pub(super) fn head(method: &str, target: &str, fields: &[(&str, &str)]) -> RequestHead {
    let mut raw = String::new();
    let mut put = |text: &str| {
        let start = u32::try_from(raw.len()).unwrap();
        raw.push_str(text);
        let end = u32::try_from(raw.len()).unwrap();
        raw.push(' ');
        Span { start, end }
    };
    let (method, target) = (put(method), put(target));
    let fields =
        fields.iter().map(|(name, value)| HeaderField { name: put(name), value: put(value) }).collect();
    RequestHead {
        raw: raw.into(),
        method,
        target,
        version: HttpVersion::Http11,
        fields,
        framing: BodyFraming::None,
        faults: vec![],
    }
}

pub(super) fn asks(
    rules: &[RateRule],
    table: &RateTable,
    ip: &str,
    head: &RequestHead,
    now_ms: u64,
) -> Option<Over> {
    let mut path = Vec::new();
    path::normalise(head.target(), path::Separators::Any, &mut path);
    let client: IpAddr = ip.parse().unwrap();
    judge(rules, table, &Asked { client, head, paths: [&path; 2] }, true, now_ms * 1_000_000, |_, _, _| {})
}

fn by_ip(name: &str, count: u32, period_ms: u64, burst: u32) -> RateRule {
    RateRule::new("shop", name, Pace::new(count, period_ms, burst)).by([RateKeyPart::Ip])
}

#[test]
fn an_address_has_its_burst_then_the_rate_and_is_told_when_to_come_back() {
    let (rules, table) = ([by_ip("all", 5, 10_000, 3)], RateTable::default());
    let get = head("GET", "/", &[]);
    let passes = |ip: &str, now_ms| asks(&rules, &table, ip, &get, now_ms).is_none();
    assert!((0..3).all(|_| passes("192.0.2.1", 1_000)));
    let over = asks(&rules, &table, "192.0.2.1", &get, 1_000).unwrap();
    assert!(over.refuses);
    let excess = &over.excess;
    assert_eq!((&*excess.limit, excess.key.as_str()), ("all", "ip 192.0.2.1"));
    assert_eq!((excess.here, excess.elsewhere, excess.retry_after_s), (3, 0, 2));
    assert!(passes("192.0.2.2", 1_000), "others have their own count");
    assert!(!passes("192.0.2.1", 2_999), "refused requests cost nothing and bring nothing");
    assert!(passes("192.0.2.1", 3_000) && !passes("192.0.2.1", 3_000));
    assert!((0..3).all(|_| passes("192.0.2.1", 60_000)));
    assert_eq!(rules[0].counts.refused.load(Ordering::Relaxed), 3);
    assert_eq!(rules[0].counts.admitted.load(Ordering::Relaxed), 8);
}

#[test]
fn an_ipv6_subscriber_is_one_client_and_mapped_addresses_are_ipv4() {
    let (rules, table) = ([by_ip("all", 1, 10_000, 1)], RateTable::default());
    let get = head("GET", "/", &[]);
    let passes = |ip: &str| asks(&rules, &table, ip, &get, 1).is_none();
    assert!(passes("2001:db8:1:2::1") && !passes("2001:db8:1:2:ffff::9") && passes("2001:db8:1:3::1"));
    assert!(passes("192.0.2.1") && !passes("::ffff:192.0.2.1"));
}

#[test]
fn keys_tell_requests_apart_as_policy_says() {
    let one = |rule: RateRule| [rule];
    let base = || RateRule::new("shop", "one", Pace::new(1, 60_000, 1));
    let check = |rules: [RateRule; 1], requests: &[(&RequestHead, bool)]| {
        let table = RateTable::default();
        for (n, (head, passes)) in requests.iter().enumerate() {
            let over = asks(&rules, &table, "192.0.2.1", head, 1);
            assert_eq!(over.is_none(), *passes, "request {n}: {over:?}");
        }
    };
    let (a, b) = (head("GET", "/", &[("X-Api-Key", "a")]), head("GET", "/", &[("x-api-key", "b")]));
    let none = head("GET", "/", &[]);
    let header = || RateKeyPart::Header("x-api-key".into());
    check(one(base().by([header()])), &[(&a, true), (&a, false), (&b, true), (&none, true), (&none, true)]);
    let (x, y) =
        (head("GET", "/", &[("Cookie", "a=1; sid=x")]), head("GET", "/", &[("cookie", "sid=y;a=1")]));
    check(
        one(base().by([RateKeyPart::Cookie("sid".into())])),
        &[(&x, true), (&y, true), (&x, false), (&a, true)],
    );
    let post = head("POST", "/%6cogin/", &[]);
    let login = head("GET", "//login", &[]);
    let about = || base().about(["/login", "/reset"], []);
    check(one(about()), &[(&post, true), (&login, false), (&none, true), (&none, true)]);
    check(one(about().by([RateKeyPart::Method])), &[(&post, true), (&login, true), (&post, false)]);
    let reset = head("POST", "/reset/7", &[]);
    check(one(about().by([RateKeyPart::Path])), &[(&post, true), (&login, false), (&reset, true)]);
    check(one(base().about([], ["POST"])), &[(&login, true), (&login, true), (&post, true), (&reset, false)]);
}

#[test]
fn values_of_headers_are_not_shown() {
    let key = [RateKeyPart::Ip, RateKeyPart::Header("authorization".into()), RateKeyPart::Path];
    let rules = [RateRule::new("shop", "one", Pace::new(1, 60_000, 1)).about(["/a"], []).by(key)];
    let (table, head) = (RateTable::default(), head("GET", "/a", &[("Authorization", "s3cret")]));
    assert!(asks(&rules, &table, "192.0.2.1", &head, 1).is_none());
    let words = asks(&rules, &table, "192.0.2.1", &head, 1).unwrap().excess.key;
    assert!(
        words.starts_with("ip 192.0.2.1, header authorization #") && words.ends_with(", path /a"),
        "{words}"
    );
    assert!(!words.contains("s3cret"));
}

#[test]
fn a_request_that_one_limit_refuses_takes_nothing_from_another() {
    let (rules, table) =
        ([by_ip("wide", 10, 60_000, 10), by_ip("narrow", 1, 60_000, 1)], RateTable::default());
    let get = head("GET", "/", &[]);
    for _ in 0..50 {
        asks(&rules, &table, "192.0.2.1", &get, 1);
    }
    assert_eq!(rules[0].counts.admitted.load(Ordering::Relaxed), 1);
}

#[test]
fn a_limit_that_observes_refuses_nothing_and_counts_as_one_that_refuses() {
    let mut rule = by_ip("all", 5, 10_000, 2);
    rule.observes = true;
    let (rules, table) = ([rule], RateTable::default());
    let get = head("GET", "/", &[]);
    let over: Vec<bool> = (0..5)
        .map(|_| asks(&rules, &table, "192.0.2.1", &get, 1).is_some_and(|over| !over.refuses))
        .collect();
    assert_eq!(over, [false, false, true, true, true]);
    assert_eq!(rules[0].counts.observed.load(Ordering::Relaxed), 3);
}

#[test]
fn a_flood_of_keys_stays_in_bounds_and_frees_no_one_who_is_beyond_the_limit() {
    let (rules, table) = ([by_ip("all", 2, 3_600_000, 2)], RateTable::default());
    let get = head("GET", "/", &[]);
    let offenders: Vec<String> = (0..200).map(|n| format!("198.51.100.{n}")).collect();
    for ip in offenders.iter().chain(&offenders) {
        assert!(asks(&rules, &table, ip, &get, 1).is_none());
    }
    for n in 0..150_000u32 {
        let ip = std::net::Ipv4Addr::from(0x0a00_0000 + n).to_string();
        asks(&rules, &table, &ip, &get, 2);
    }
    assert!(table.keys_len() <= phalanx_model::limits::RATE_KEYS_MAX);
    for ip in &offenders {
        assert!(asks(&rules, &table, ip, &get, 3).is_some(), "{ip} was let off");
    }
}

#[test]
fn a_table_full_of_offenders_admits_and_counts() {
    let (rules, table) = ([by_ip("all", 1, 3_600_000, 1)], RateTable::default());
    let get = head("GET", "/", &[]);
    for n in 0..100_000u32 {
        let ip = std::net::Ipv4Addr::from(0x0a00_0000 + n).to_string();
        assert!(asks(&rules, &table, &ip, &get, 2).is_none());
    }
    assert!(table.untracked() > 30_000 && table.keys_len() <= phalanx_model::limits::RATE_KEYS_MAX);
}

#[test]
fn what_is_told_is_bounded_and_new_and_near_its_limit_first() {
    let mut rule = by_ip("all", 10, 3_600_000, 10);
    rule.scope = RateScope::Fleet { share_percent: None };
    let (rules, table) = ([rule, by_ip("alone", 10, 3_600_000, 10)], RateTable::default());
    table.set_reach(Reach { known: 2, heard: 2 });
    let get = head("GET", "/", &[]);
    let ask = |n: u32, times: u32, now_ms: u64| {
        let ip = std::net::Ipv4Addr::from(0x0a00_0000 + n).to_string();
        (0..times).for_each(|_| drop(asks(&rules, &table, &ip, &get, now_ms)));
    };
    (0..1_000).for_each(|n| ask(n, 1 + n % 10, 1_000));
    let told = |now_ms: u64| {
        table.tell(now_ms * 1_000_000, false).iter().map(|count| count.count).collect::<Vec<_>>()
    };
    let first = told(1_000);
    assert_eq!(first.len(), phalanx_model::limits::RATE_KEYS_TOLD_MAX);
    assert!(first.iter().all(|&count| count >= 8), "those nearest to their limit");
    (0..3).for_each(|_| assert!(!told(1_000).is_empty()));
    assert!(told(1_000).is_empty(), "all is told, and nothing changed");
    ask(5_000, 1, 1_400);
    assert_eq!(told(1_400), [1]);
    ask(5_001, 1, 1_600);
    assert!(told(1_600).contains(&1), "news goes before what is only told again");
}

/// When it arrives, from whom, to whom, what.
type Message = (u64, usize, usize, Vec<u8>);

/// Nodes that serve one client, news between them going by a relay that takes 40 ms.
struct Fleet {
    rule: RateRule,
    nodes: Vec<RateTable>,
    now_ms: u64,
    /// What is on its way.
    relay: VecDeque<Message>,
    /// To which side each node belongs.
    side: Vec<usize>,
    admitted: Vec<u64>,
    /// The relay loses one message in three, and brings one in two once more, late.
    lossy: bool,
    carried: u64,
    /// Claims that the last node makes up: each tells the others this count.
    liar: bool,
}

impl Fleet {
    fn new(nodes: usize, pace: Pace) -> Self {
        let mut rule = RateRule::new("shop", "all", pace).by([RateKeyPart::Ip]);
        rule.scope = RateScope::Fleet { share_percent: None };
        let mut fleet = Self {
            rule,
            nodes: (0..nodes).map(|_| RateTable::default()).collect(),
            now_ms: 1_000,
            relay: VecDeque::new(),
            side: vec![0; nodes],
            admitted: vec![0; nodes],
            lossy: false,
            carried: 0,
            liar: false,
        };
        fleet.split(&vec![0; nodes]);
        fleet
    }

    /// Cuts the fleet into sides that hear only themselves.
    fn split(&mut self, side: &[usize]) {
        self.side = side.to_vec();
        for (n, table) in self.nodes.iter().enumerate() {
            let heard = side.iter().filter(|&&other| other == side[n]).count();
            let number = |nodes: usize| u16::try_from(nodes).unwrap();
            table.set_reach(Reach { known: number(self.nodes.len()), heard: number(heard) });
        }
    }

    /// The cut is over: all tell again what they counted, and count each other in so much later.
    fn heal(&mut self, settled_ms: u64) {
        let one_side = vec![0; self.nodes.len()];
        self.side.clone_from(&one_side);
        self.nodes.iter().for_each(RateTable::tell_again);
        (0..settled_ms).for_each(|_| self.tick());
        self.split(&one_side);
    }

    fn ask(&mut self, node: usize) {
        let get = head("GET", "/", &[]);
        let rules = std::slice::from_ref(&self.rule);
        if asks(rules, &self.nodes[node], "192.0.2.1", &get, self.now_ms).is_none() {
            self.admitted[node] += 1;
        }
    }

    /// One millisecond of news. Nodes tell at moments of their own within the tenth of a second.
    fn tick(&mut self) {
        self.now_ms += 1;
        let tell_ms = phalanx_model::limits::RATE_TELL_MS;
        for from in 0..self.nodes.len() {
            if !(self.now_ms + 37 * from as u64).is_multiple_of(tell_ms) {
                continue;
            }
            let mut counts = self.nodes[from].tell(self.now_ms * 1_000_000, false);
            if self.liar && from == self.nodes.len() - 1 {
                let key = self.key();
                counts = vec![KeyCount {
                    limit: self.rule.tag(),
                    key,
                    since: u32::try_from(self.now_ms).unwrap(),
                    count: u32::MAX,
                }];
            }
            let bytes = CountBatch::to_bytes(CountOf::Node, 1, &counts);
            for to in (0..self.nodes.len()).filter(|&to| to != from && self.side[to] == self.side[from]) {
                if counts.is_empty() {
                    continue;
                }
                self.carried += 1;
                let dice = self.carried.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
                if !(self.lossy && dice.is_multiple_of(3)) {
                    self.relay.push_back((self.now_ms + 40, from, to, bytes.clone()));
                }
                if self.lossy && (dice >> 8).is_multiple_of(2) {
                    self.relay.push_back((self.now_ms + 260, from, to, bytes.clone()));
                }
            }
        }
        let now_ms = self.now_ms;
        let (arrived, on_its_way) = self.relay.drain(..).partition(|(at_ms, ..)| *at_ms <= now_ms);
        self.relay = on_its_way;
        for (_, from, to, bytes) in Vec::from(arrived) {
            let author = Author { site: "fra".into(), node: from.to_string().into(), role: AuthorRole::Node };
            let batch = CountBatch::from_bytes(author, &bytes).unwrap();
            let rule = |tag| (tag == self.rule.tag()).then_some(&self.rule);
            self.nodes[to].hear(&batch, rule, self.now_ms * 1_000_000);
        }
    }

    fn key(&self) -> u64 {
        let (get, client) = (head("GET", "/", &[]), "192.0.2.1".parse().unwrap());
        self.rule.key(&self.nodes[0], &Asked { client, head: &get, paths: [b"/"; 2] }).unwrap()
    }

    /// `count` requests evenly over `for_ms`, dealt to these nodes in turn. How many were admitted.
    fn spread(&mut self, count: u64, for_ms: u64, to: &[usize]) -> u64 {
        let before = self.sum();
        let (mut asked, mut turns) = (0, to.iter().cycle());
        for ms in 0..for_ms {
            while asked * for_ms <= ms * count && asked < count {
                self.ask(*turns.next().unwrap());
                asked += 1;
            }
            self.tick();
        }
        self.sum() - before
    }

    fn sum(&self) -> u64 {
        self.admitted.iter().sum()
    }
}

fn hundred_in_ten_seconds() -> Pace {
    Pace::new(100, 10_000, 10)
}

#[test]
fn arrivals_spread_over_ten_seconds_on_three_nodes_are_admitted_as_by_one() {
    let mut fleet = Fleet::new(3, hundred_in_ten_seconds());
    let admitted = fleet.spread(600, 10_000, &[0, 1, 2]);
    println!("600 over 10 s on three nodes, limit 100: {admitted} admitted, by node {:?}", fleet.admitted);
    assert!((100..=115).contains(&admitted), "{admitted}");
}

#[test]
fn lost_repeated_and_late_messages_change_little() {
    let mut fleet = Fleet::new(3, hundred_in_ten_seconds());
    fleet.lossy = true;
    let admitted = fleet.spread(600, 10_000, &[0, 1, 2]);
    println!("the same with a third of messages lost and half repeated late: {admitted} admitted");
    assert!((100..=115).contains(&admitted), "{admitted}");
    let long = fleet.spread(3_600, 60_000, &[0, 1, 2]);
    assert!((590..=610).contains(&long), "{long} in a minute");
}

#[test]
fn more_nodes_admit_a_little_more_once() {
    for (nodes, most) in [(5, 120), (10, 130), (30, 150)] {
        let mut fleet = Fleet::new(nodes, hundred_in_ten_seconds());
        let all: Vec<usize> = (0..nodes).collect();
        let admitted = fleet.spread(600, 10_000, &all);
        let then = fleet.spread(600, 10_000, &all);
        println!("600 over 10 s on {nodes} nodes, limit 100: {admitted} admitted, then {then}");
        assert!(
            (100..=most).contains(&admitted) && (85..=102).contains(&then),
            "{nodes} nodes: {admitted}, {then}"
        );
    }
}

#[test]
fn one_node_that_gets_all_requests_has_the_whole_limit() {
    let mut fleet = Fleet::new(3, hundred_in_ten_seconds());
    let admitted = fleet.spread(600, 10_000, &[1]);
    assert!((105..=112).contains(&admitted), "{admitted}");
    // And when the client moves, the next one knows.
    let admitted = fleet.spread(600, 10_000, &[2]);
    assert!((95..=112).contains(&admitted), "{admitted}");
}

#[test]
fn a_burst_of_one_second_overshoots_by_a_local_share_for_each_other_node() {
    for nodes in [2, 3, 5, 10] {
        for pace in [hundred_in_ten_seconds(), Pace::new(100, 10_000, 100), Pace::new(50, 1_000, 5)] {
            let mut fleet = Fleet::new(nodes, pace);
            let all: Vec<usize> = (0..nodes).collect();
            let admitted = fleet.spread(200 * nodes as u64, 1_000, &all);
            let of = |ms: u64| ms * 1_000_000 / pace.interval_ns;
            let allowed = u64::from(pace.burst) + of(1_000);
            // What a node admits alone before it hears the others: its burst, and the rate for as long as news takes.
            let share = u64::from(pace.burst) + of(140) + 1;
            let most = allowed + (nodes as u64 - 1) * share;
            println!(
                "one second, {nodes} nodes, burst {}: {admitted} admitted, {allowed} allowed, {most} at most",
                pace.burst
            );
            assert!(admitted <= most, "{nodes} nodes: {admitted} of {most}");
        }
    }
}

#[test]
fn each_side_of_a_partition_keeps_its_share_and_one_count_is_there_within_a_second_of_healing() {
    let mut fleet = Fleet::new(3, hundred_in_ten_seconds());
    fleet.split(&[0, 0, 1]);
    fleet.spread(2_000, 20_000, &[0, 1, 2]);
    let before = fleet.admitted.clone();
    fleet.spread(6_000, 60_000, &[0, 1, 2]);
    let per_minute: Vec<u64> = fleet.admitted.iter().zip(&before).map(|(now, then)| now - then).collect();
    let (pair, alone) = (per_minute[0] + per_minute[1], per_minute[2]);
    println!("a minute cut in two, limit 600: {pair} on two nodes, {alone} on the third");
    assert!((380..=415).contains(&pair) && (190..=207).contains(&alone), "{per_minute:?}");
    fleet.split(&[0, 0, 0]);
    fleet.spread(100, 1_000, &[0, 1, 2]);
    for _ in 0..3 {
        let admitted = fleet.spread(1_000, 10_000, &[0, 1, 2]);
        assert!((95..=112).contains(&admitted), "{admitted} in ten seconds after healing");
    }
    // One count: a node that gets all requests has the limit of all, as soon as it has paid for what was too much.
    let first = fleet.spread(600, 10_000, &[0]);
    let then = fleet.spread(600, 10_000, &[0]);
    assert!((80..=112).contains(&first) && (97..=103).contains(&then), "{first}, {then}");
}

/// Two nodes that admitted so many and a third that was cut off and admitted so many: what the third admits when it is back, and counts
/// the others in so much later.
fn admitted_when_back(pair: u64, alone: u64, settled_ms: u64) -> u64 {
    let mut fleet = Fleet::new(3, Pace::new(30, 3_600_000, 30));
    fleet.split(&[0, 0, 1]);
    fleet.spread(pair, 200, &[0]);
    fleet.spread(alone, 200, &[2]);
    assert_eq!(fleet.sum(), pair + alone, "within their shares");
    // Told in vain, and told again only later, if nobody asks for it.
    fleet.spread(0, 200, &[0]);
    fleet.heal(settled_ms);
    fleet.spread(200, 1_000, &[2])
}

#[test]
fn what_both_sides_of_a_cut_admitted_is_counted_before_they_are_one() {
    let admitted = [0, 1, 5, 9, 10, 19, 20];
    for (pair, alone) in admitted.into_iter().flat_map(|pair| admitted.map(|alone| (pair, alone))) {
        if alone > 10 {
            continue;
        }
        // All that is left of the limit; of its own share in any case.
        let left = 30 - pair - alone;
        let back = admitted_when_back(pair, alone, 300);
        assert!((10 - alone..=left.max(10 - alone)).contains(&back), "{pair} and {alone}, then {back}");
    }
    let too_soon = admitted_when_back(20, 5, 0);
    assert!(too_soon > 5, "counted in before its counts are there: {too_soon}");
}

#[test]
fn nodes_that_hear_each_other_have_as_many_shares_as_they_are() {
    let get = head("GET", "/", &[]);
    let check = |share_percent, known, heard, expected: u64| {
        let mut rule = by_ip("all", 100, 3_600_000, 100);
        rule.scope = RateScope::Fleet { share_percent };
        let (rules, table) = ([rule], RateTable::default());
        table.set_reach(Reach { known, heard });
        (0..200).for_each(|_| drop(asks(&rules, &table, "192.0.2.1", &get, 1)));
        assert_eq!(
            rules[0].counts.admitted.load(Ordering::Relaxed),
            expected,
            "{share_percent:?} {known} {heard}"
        );
    };
    for (known, heard, expected) in
        [(1, 1, 100), (3, 3, 100), (3, 2, 66), (3, 1, 33), (200, 1, 1), (4, 2, 50)]
    {
        check(None, known, heard, expected);
    }
    // Policy's share holds however long others were not heard.
    for (known, heard, expected) in [(3, 3, 100), (2, 2, 80), (3, 1, 40), (1, 1, 40)] {
        check(Some(40), known, heard, expected);
    }
    check(Some(100), 3, 1, 100);
}

#[test]
fn a_node_with_absurd_claims_takes_no_more_than_what_is_beyond_the_others_shares() {
    let mut fleet = Fleet::new(3, hundred_in_ten_seconds());
    fleet.liar = true;
    fleet.spread(600, 10_000, &[0, 1]);
    let before = fleet.admitted.clone();
    fleet.spread(6_000, 60_000, &[0, 1]);
    let per_minute: Vec<u64> = fleet.admitted.iter().zip(&before).map(|(now, then)| now - then).collect();
    println!("with one liar of three, limit 600 a minute: {per_minute:?}");
    assert!(per_minute[0] >= 195 && per_minute[1] >= 195, "each honest node has its third: {per_minute:?}");
    // It is over soon after the lies are.
    fleet.liar = false;
    fleet.spread(30, 3_500, &[0]);
    let admitted = fleet.spread(600, 10_000, &[0]);
    assert!(admitted >= 90, "{admitted}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    /// Wherever requests go and whenever: in the long run no more than the limit, a burst, and what news leaves open.
    #[test]
    fn a_fleet_never_admits_more_than_the_limit_and_what_news_leaves_open(
        moves in prop::collection::vec((0usize..3, 1u64..400, 1u64..3_000), 1..12),
    ) {
        let pace = hundred_in_ten_seconds();
        let mut fleet = Fleet::new(3, pace);
        let start_ms = fleet.now_ms;
        for (node, count, for_ms) in moves {
            fleet.spread(count, for_ms, &[node]);
        }
        let passed = (fleet.now_ms - start_ms) / 100;
        let most = 10 + passed + 2 * (10 + 3);
        prop_assert!(fleet.sum() <= most, "{} of {}", fleet.sum(), most);
    }
}

#[test]
fn two_values_of_a_cookie_are_no_way_to_a_fresh_count() {
    let rule = RateRule::new("shop", "all", Pace::new(5, 10_000, 3)).by([RateKeyPart::Cookie("sid".into())]);
    let (rules, table) = ([rule], RateTable::default());
    let over =
        |cookie: &str| asks(&rules, &table, "192.0.2.1", &head("GET", "/", &[("Cookie", cookie)]), 1_000);
    assert!((0..3).all(|n| over(&format!("sid=fresh{n}; sid=real")).is_none()));
    assert!(over("sid=fresh3; sid=real").is_some());
    assert!(over("sid=real; sid=real").is_none(), "the same twice is one");
}

#[test]
fn what_others_speak_of_does_not_take_the_places_of_keys_that_are_counted_here() {
    let mut rule = by_ip("all", 5, 10_000, 3);
    rule.scope = RateScope::Fleet { share_percent: None };
    let rules = [rule];
    let table = RateTable::default();
    table.set_reach(Reach { known: 2, heard: 2 });
    let get = head("GET", "/", &[]);
    let key =
        rules[0].key(&table, &Asked { client: "192.0.2.1".parse().unwrap(), head: &get, paths: [b"/"; 2] });
    let bucket = key.unwrap() & !0xffff_ffff;
    let claims =
        |n: u32| KeyCount { limit: rules[0].tag(), key: bucket | u64::from(n), since: n, count: 100 };
    let author = Author { site: "fra".into(), node: "b".into(), role: AuthorRole::Node };
    let batch = CountBatch { author, of: CountOf::Node, epoch: 1, counts: (1..40).map(claims).collect() };
    table.hear(&batch, |_| Some(&rules[0]), 1_000_000_000);
    assert!((0..3).all(|_| asks(&rules, &table, "192.0.2.1", &get, 1_000).is_none()));
    assert!(asks(&rules, &table, "192.0.2.1", &get, 1_000).is_some(), "its own key is counted all the same");
}
