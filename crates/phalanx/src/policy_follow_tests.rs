//! Bundles and records that must not be used, each all the way: signed, published, fetched, judged.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use phalanx_edge::{Edge, EdgeSettings, EdgeShared, Material, Places};
use phalanx_fleet::policy::{BundleRef, Manifest};
use phalanx_fleet::{BlobHash, FleetKeys, FleetSettings, NewBundle, Put, Speed, Topic, subject};
use phalanx_model::lanes::{LaneReaders, Lanes};
use phalanx_model::limits::{POLICY_BUNDLE_BYTES_MAX, POLICY_LINES_MAX, RECORD_FUTURE_MAX_MS};
use phalanx_model::{Author, AuthorRole, Swap, SystemClock, View};
use phalanx_policy::Policy;
use phalanx_trust::{SignedRecord, Statement};

use super::*;
use crate::plan::PolicySource;
use crate::upstreams::OwnNode;

const FLEET: &str = "default";

/// A node of its own, without workers, that follows its fleet's policy.
struct Rig {
    fleet: FleetHandle,
    keeper: Arc<PolicyKeeper>,
    keys: FleetKeys,
    folder: tempfile::TempDir,
    _edge: Edge,
    _readers: LaneReaders,
}

impl Rig {
    async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap()).await
    }

    async fn start_in(folder: tempfile::TempDir) -> Self {
        let state = StateFolder::open(folder.path()).unwrap();
        let sealer = Arc::new(Sealer::load_or_create(&state.sealing_key()).unwrap());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let (lanes, readers) = Lanes::new();
        let kept = Kept::read(&state, &sealer, FLEET.into());
        let own = PolicySource::Built(Box::new(Policy::one_app("http://127.0.0.1:9").unwrap()));
        let keeper =
            PolicyKeeper::start(own, kept.bundle(), OwnNode::default(), lanes.clone(), Arc::clone(&clock));
        let keeper = Arc::new(keeper.map_err(|faults| summary(&faults)).unwrap());
        let shared = EdgeShared {
            plan: keeper.plan(),
            view: Arc::new(Swap::new(View::default())),
            places: Arc::new(Swap::new(Places::default())),
            material: Arc::new(Swap::new(Material::default())),
            lanes: lanes.clone(),
            clock: Arc::clone(&clock),
        };
        let edge = Edge::bind(EdgeSettings::new(vec![], 1, 1), shared, vec![]).unwrap();
        let load = || FleetKeys::load_or_create(folder.path(), &sealer, true).unwrap();
        let settings = FleetSettings {
            fleet_id: FLEET.into(),
            site: "fra".into(),
            node: "a".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            roles: vec![],
            state_dir: folder.path().to_owned(),
            nats: None,
            secret: None,
            membership: None,
            enrol: Vec::new(),
        };
        let fleet = FleetHandle::start(settings, Arc::clone(&sealer), load(), lanes, Arc::clone(&clock));
        let fleet = fleet.await.unwrap();
        tokio::spawn(kept.follow(Arc::clone(&keeper), fleet.clone(), edge.handle(), clock));
        Self { fleet, keeper, keys: load(), folder, _edge: edge, _readers: readers }
    }

    fn version(&self) -> u64 {
        self.keeper.plan().load().version
    }

    async fn push(&self, files: BTreeMap<String, Vec<u8>>) -> u64 {
        let new = NewBundle {
            files,
            entry: "policy.toml".into(),
            version: 1,
            expect: None,
            requires: vec![],
            stage: None,
            bake_ms: None,
            reason: String::new(),
            maker: phalanx_fleet::policy::Maker::of_files("ann"),
        };
        let record = self.fleet.push_policy(new).await.unwrap();
        let version = record.newest().version;
        until("the bundle is in force", || self.version() == version).await;
        version
    }

    /// Publishes a poisoned successor as a holder of the operator's key could, and gives what the node says of it.
    async fn told_of(&self, poison: impl FnOnce(&mut Poison)) -> String {
        let known = self.fleet.policy_state().record.unwrap();
        let now_ms = SystemClock.now_ms();
        let newest = known.newest().clone();
        let mut poisoned = Poison {
            manifest: Manifest {
                schema: 1,
                fleet: FLEET.into(),
                version: newest.version + 1,
                previous: Some(newest.hash),
                oldest: "0.1.0".into(),
                requires: vec![],
                entry: "policy.toml".into(),
                made_at_ms: now_ms,
            },
            files: good(1),
            bytes: Box::new(|bytes| bytes),
            record: (*known).clone(),
            fleet: FLEET,
            expires_at_ms: now_ms + 60_000,
        };
        poisoned.record.serial += 1;
        poisoned.record.changed_at_ms = now_ms;
        poison(&mut poisoned);
        let Poison { manifest, files, bytes, mut record, fleet, expires_at_ms } = poisoned;
        let (version, previous) = (manifest.version, manifest.previous.clone());
        let whole = Bundle { manifest, files }.to_bytes().unwrap();
        let hash = BlobHash::of(&whole);
        let sent = bytes(whole);
        let name = BlobHash::of(&sent);
        self.fleet.engine().blob_put(Bytes::from(sent.clone())).await.unwrap();
        let (hash, len) = if name == hash { (hash, sent.len()) } else { (name, sent.len() + 1) };
        let reference =
            BundleRef { version, hash: hash.as_str().into(), previous, bytes: u64::try_from(len).unwrap() };
        record.chain.push(reference.clone());
        record.stable = reference;
        let before = self.fleet.status().refused;
        self.publish(&record, fleet, expires_at_ms).await;
        let told = || {
            let refused = self.fleet.members().remove(0).policy.unwrap().refused;
            let of_bundle =
                refused.filter(|refused| refused.version == version).map(|refused| refused.reason);
            let of_record = self.fleet.status().degraded.join("\n");
            of_bundle.or_else(|| (self.fleet.status().refused > before).then_some(of_record))
        };
        until("the node says something", || told().is_some()).await;
        told().unwrap()
    }

    async fn publish(&self, record: &PolicyRecord, fleet: &str, expires_at_ms: u64) {
        let subject = subject::of_policy(&record.home);
        let author = Author { site: "fra".into(), node: "a".into(), role: AuthorRole::Operator };
        let body = serde_json::to_vec(record).unwrap();
        let statement = Statement {
            fleet_id: fleet,
            subject: &subject,
            author: &author,
            version: record.serial,
            expires_at_ms,
            body: &body,
        };
        let bytes = SignedRecord::sign(self.keys.operator.as_ref().unwrap(), statement).to_bytes().unwrap();
        let put = Put {
            topic: Topic::Policy,
            subject,
            version: record.serial,
            expires_at_ms,
            bytes: bytes.into(),
            speed: Speed::Both,
        };
        self.fleet.engine().publish(put).await.unwrap();
    }
}

struct Poison {
    manifest: Manifest,
    files: BTreeMap<String, Vec<u8>>,
    bytes: Box<dyn FnOnce(Vec<u8>) -> Vec<u8>>,
    record: PolicyRecord,
    fleet: &'static str,
    expires_at_ms: u64,
}

fn good(number: u32) -> BTreeMap<String, Vec<u8>> {
    with_rules(&[("rules/own.conf", format!("SecRule ARGS:n \"@streq {number}\" \"id:1,deny\"\n"))])
}

fn with_rules(rules: &[(&str, String)]) -> BTreeMap<String, Vec<u8>> {
    let policy = "[[apps]]\nname = \"shop\"\nupstream = \"http://127.0.0.1:9\"\nrules = [\"rules\"]\n";
    let rules = rules.iter().map(|(name, text)| ((*name).to_owned(), text.clone().into_bytes()));
    rules.chain([("policy.toml".to_owned(), policy.as_bytes().to_vec())]).collect()
}

fn one_rule(text: &str) -> BTreeMap<String, Vec<u8>> {
    with_rules(&[("rules/own.conf", text.to_owned())])
}

async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(30), "never happened: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

type Case = (&'static str, fn(&mut Poison), &'static str);

const POISONS: [Case; 17] = [
    (
        "oversized",
        |poison| poison.bytes = Box::new(|bytes| [bytes, vec![b' '; POLICY_BUNDLE_BYTES_MAX]].concat()),
        "the bundle is too large",
    ),
    (
        "bad regex",
        |poison| poison.files = one_rule("SecRule ARGS \"@rx a(\" \"id:1,deny\"\n"),
        "rules/own.conf:1:",
    ),
    (
        "catch-all block",
        |poison| poison.files = one_rule("SecAction \"id:1,phase:1,deny\"\n"),
        "the rules of app `shop` refuse every request, harmless ones too",
    ),
    ("expired signature", |poison| poison.expires_at_ms = 1, "expired record"),
    ("signed for another fleet", |poison| poison.fleet = "other", "record of another fleet"),
    (
        "made for another fleet",
        |poison| poison.manifest.fleet = "other".into(),
        "the bundle is for fleet `other`",
    ),
    (
        "downgrade",
        |poison| {
            poison.record.chain.clear();
            poison.manifest.version = 1;
            poison.manifest.previous = None;
        },
        "is lower than",
    ),
    (
        "a fork of the chain",
        |poison| {
            poison.record.chain.clear();
            poison.manifest.previous = Some("0".repeat(64));
        },
        "does not follow on version",
    ),
    (
        "unknown required feature",
        |poison| poison.manifest.requires = vec!["telepathy".into()],
        "requires `telepathy`, which this version of the product does not know",
    ),
    (
        "a newer product",
        |poison| poison.manifest.oldest = "7.0.0".into(),
        "needs version 7.0.0 of the product",
    ),
    (
        "deep include",
        |poison| {
            let one = |n: u32| (format!("rules/{n}.inc"), format!("Include {}.inc\n", n + 1).into_bytes());
            poison.files = one_rule("Include 1.inc\n");
            poison.files.extend((1..40).map(one));
        },
        "files include each other more than 16 deep",
    ),
    (
        "includes that double",
        |poison| {
            let one = |n: u32| {
                let next = format!("Include {0}.inc\n", n + 1).repeat(10);
                (format!("rules/{n}.inc"), next.into_bytes())
            };
            poison.files = one_rule("Include 1.inc\n");
            poison.files.extend((1..12).map(one));
            poison.files.insert("rules/12.inc".into(), vec![]);
        },
        "more than 4096 files are included",
    ),
    (
        "truncated",
        |poison| poison.bytes = Box::new(|bytes| bytes[..bytes.len() / 2].to_vec()),
        "it may be cut off",
    ),
    (
        "duplicate ids",
        |poison| poison.files = one_rule("SecAction \"id:1,pass\"\nSecAction \"id:1,pass\"\n"),
        "rules/own.conf:2:",
    ),
    (
        "huge table",
        |poison| {
            let phrases = "evil phrase\n".repeat(POLICY_LINES_MAX + 1);
            poison.files = with_rules(&[
                ("rules/own.conf", "SecRule ARGS \"@pmFromFile table.data\" \"id:1,deny\"\n".to_owned()),
                ("rules/table.data", phrases),
            ]);
        },
        "lines; 200000 are possible",
    ),
    (
        "bundle from the future",
        |poison| poison.manifest.made_at_ms += 2 * RECORD_FUTURE_MAX_MS,
        "the bundle was made in the future",
    ),
    (
        "record from the future",
        |poison| poison.record.changed_at_ms += 2 * RECORD_FUTURE_MAX_MS,
        "record from the future",
    ),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn poisoned_bundles_crash_nothing_and_change_nothing() {
    let rig = Rig::start().await;
    rig.push(good(1)).await;
    let version = rig.push(good(2)).await;
    let plan = rig.keeper.plan().load_full();
    for (name, poison, expected) in POISONS {
        let told = rig.told_of(poison).await;
        println!("{name}: {told}");
        assert!(told.contains(expected), "{name}: {told}");
        assert!(Arc::ptr_eq(&plan, &rig.keeper.plan().load_full()), "{name} changed the plan");
        assert_eq!(rig.version(), version, "{name}");
    }
    assert!(rig.push(good(3)).await > version, "the node goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_in_force_is_in_force_after_a_restart_and_nothing_lower_counts() {
    let rig = Rig::start().await;
    rig.push(good(1)).await;
    let old = rig.fleet.policy_state().record.unwrap();
    let version = rig.push(good(2)).await;
    // Kept before it was in force: there is nothing to wait for.
    let bundle = rig.keeper.bundle().unwrap();
    rig.fleet.shutdown().await;
    let Rig { folder, .. } = rig;
    std::fs::remove_file(folder.path().join("fleet.redb")).unwrap();
    let again = Rig::start_in(folder).await;
    assert_eq!((again.version(), again.keeper.bundle()), (version, Some(bundle)), "from its own disk");
    again.publish(&old, FLEET, u64::MAX - 1).await;
    let at_last = again.push(good(3)).await;
    assert_eq!(at_last, version + 1);
    let own = again.keeper.reload().unwrap_err();
    assert!(summary(&own).contains("the fleet's policy bundle, version 3, is in force"), "{own:?}");
}
