//! What every engine must do, run against each.

use std::sync::Arc;
use std::time::Duration;

use crate::sim::disk::SimDisk;
use crate::sim::engine::{Bug, SimFleet};
use crate::sim::world::{Weather, World};
use crate::support::NatsServer;
use bytes::Bytes;
use phalanx_fleet::store::Store;
use phalanx_fleet::{
    BlobHash, Delivery, Fleet, LocalFleet, NatsFleet, NatsSettings, Put, Receipt, Speed, Topic,
};
use phalanx_model::{Author, AuthorRole, Clock, SystemClock};
use phalanx_trust::Sealer;
use tokio::sync::mpsc;
use tokio::time::timeout;

struct Bench {
    folder: tempfile::TempDir,
    sealer: Arc<Sealer>,
    on: Ground,
}

/// What an engine stands on.
enum Ground {
    Alone,
    Nats(NatsServer),
    Simulated(Arc<World>, SimDisk),
}

impl Bench {
    async fn engine(&self) -> (Arc<dyn Fleet>, Arc<Store>) {
        let (engine, store) = match &self.on {
            Ground::Simulated(world, disk) => self.simulated(world, disk).await,
            Ground::Alone | Ground::Nats(_) => self.real().await,
        };
        let audits = !matches!(self.on, Ground::Alone);
        let mut link = engine.link();
        let ready = link.wait_for(|link| link.connected && (!audits || link.audited_at_ms.is_some()));
        timeout(LONG, ready).await.unwrap().unwrap();
        (engine, store)
    }

    async fn simulated(&self, world: &Arc<World>, disk: &SimDisk) -> (Arc<dyn Fleet>, Arc<Store>) {
        // A writer from before has written what waited.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let disk = disk.clone();
        let (store, mut writer) = Store::on(move || disk.head(), Arc::clone(&self.sealer)).unwrap();
        tokio::spawn(async move { while writer.turn(tokio::time::sleep(Duration::from_millis(5))).await {} });
        let store = Arc::new(store);
        let engine = SimFleet::start(
            Arc::clone(world),
            author(),
            Arc::clone(&store),
            Arc::new(SystemClock),
            Bug::None,
        );
        (Arc::new(engine), store)
    }

    async fn real(&self) -> (Arc<dyn Fleet>, Arc<Store>) {
        let path = self.folder.path().join("fleet.redb");
        let store = Arc::new(Store::open(&path, Arc::clone(&self.sealer), 1).unwrap());
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let engine: Arc<dyn Fleet> = match &self.on {
            Ground::Nats(server) => {
                let settings = NatsSettings::at(server.url());
                Arc::new(NatsFleet::start(settings, author(), Arc::clone(&store), clock).await.unwrap())
            }
            Ground::Alone | Ground::Simulated(..) => {
                Arc::new(LocalFleet::new(Arc::clone(&store), "fra/a".into(), clock))
            }
        };
        (engine, store)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn local_fleet_conforms() {
    conforms(bench(Ground::Alone)).await;
}

#[tokio::test(start_paused = true)]
async fn sim_fleet_conforms() {
    let world = World::new(1, Weather { delay_max_ms: 5, ..Weather::default() });
    conforms(bench(Ground::Simulated(world, SimDisk::default()))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_fleet_conforms() {
    let Some(server) = NatsServer::start().await else { return };
    conforms(bench(Ground::Nats(server))).await;
}

async fn conforms(bench: Bench) {
    let (engine, store) = bench.engine().await;
    a_subscriber_hears_what_comes_after(&*engine).await;
    a_late_subscriber_hears_the_last_of_each_subject(&*engine).await;
    what_is_fast_is_not_kept(&*engine).await;
    a_resync_delivers_everything_once_more(&*engine).await;
    blobs_are_found_by_their_hash(&*engine).await;
    a_lease_is_renewed_with_a_higher_token(&*engine).await;
    of_two_swaps_of_one_revision_one_counts(&*engine).await;
    what_is_forgotten_is_not_kept_here(&*engine, &store).await;
    engine.close();
    drop(engine);
    store.close();
    drop(store);
    let (engine, store) = bench.engine().await;
    records_outlive_a_restart(&*engine, &store).await;
}

async fn a_subscriber_hears_what_comes_after(engine: &dyn Fleet) {
    let mut heard = engine.subscribe(Topic::Decisions);
    synced(&mut heard).await;
    assert!(matches!(engine.publish(put("one", 1, "x")).await.unwrap(), Receipt::Committed(_)));
    assert_eq!(record(&mut heard, "phx.dec.fra.a.ban.one").await, "x");
}

async fn of_two_swaps_of_one_revision_one_counts(engine: &dyn Fleet) {
    if engine.kind() == "sim" {
        return; // The simulated broker swaps no records.
    }
    let mut heard = engine.subscribe(Topic::Policy);
    synced(&mut heard).await;
    let swap = |version, text: &'static str| Put {
        topic: Topic::Policy,
        subject: "phx.pol.fra.default".into(),
        version,
        expires_at_ms: u64::MAX,
        bytes: text.into(),
        speed: Speed::Both,
    };
    let subject = "phx.pol.fra.default";
    let (nothing, before) = engine.last(Topic::Policy, subject).await.unwrap();
    assert_eq!(before, None);
    assert!(engine.put_after(swap(1, "first"), nothing).await.unwrap());
    assert_eq!(record(&mut heard, subject).await, "first");
    let (revision, _) = engine.last(Topic::Policy, subject).await.unwrap();
    assert!(!engine.put_after(swap(2, "late"), nothing).await.unwrap());
    assert!(engine.put_after(swap(2, "second"), revision).await.unwrap());
    assert!(!engine.put_after(swap(2, "third"), revision).await.unwrap());
    // Whoever lost the swap is never heard.
    assert_eq!(next_record(&mut heard, subject).await, "second");
    let (_, last) = engine.last(Topic::Policy, subject).await.unwrap();
    assert_eq!(last.as_deref(), Some(b"second".as_slice()));
}

/// The next record of a subject that is not the one before once more.
async fn next_record(heard: &mut mpsc::Receiver<Delivery>, subject: &str) -> String {
    loop {
        let next = record(heard, subject).await;
        if next != "first" {
            return next;
        }
    }
}

async fn a_late_subscriber_hears_the_last_of_each_subject(engine: &dyn Fleet) {
    let first = engine.publish(put("one", 2, "y")).await.unwrap();
    let second = engine.publish(put("two", 1, "z")).await.unwrap();
    let (Receipt::Committed(first), Receipt::Committed(second)) = (first, second) else {
        panic!("not committed");
    };
    assert!(second > first, "revisions rise");
    let mut late = engine.subscribe(Topic::Decisions);
    let mut past = synced(&mut late).await;
    past.sort();
    past.dedup();
    let expected = [("phx.dec.fra.a.ban.one", "y"), ("phx.dec.fra.a.ban.two", "z")];
    assert_eq!(past, expected.map(|(subject, body)| (subject.to_owned(), body.to_owned())));
}

async fn what_is_fast_is_not_kept(engine: &dyn Fleet) {
    a_topic_has_no_past(engine, Topic::Heartbeats, "phx.hb.fra.a").await;
    a_topic_has_no_past(engine, Topic::Counts, "phx.ctr.fra.a").await;
    a_topic_has_no_past(engine, Topic::Sketches, "phx.sk.fra.a.counts").await;
    a_topic_has_no_past(engine, Topic::Operators, "phx.opr.fra.a").await;
}

async fn a_topic_has_no_past(engine: &dyn Fleet, topic: Topic, subject: &str) {
    let mut heard = engine.subscribe(topic);
    synced(&mut heard).await;
    let beat = Put { topic, subject: subject.into(), speed: Speed::Fast, ..put("unused", 1, "beat") };
    // The subscription reaches the server in its own time: the first beats may pass unheard.
    let hearing = record(&mut heard, subject);
    let beating = async {
        loop {
            assert_eq!(engine.publish(beat.clone()).await.unwrap(), Receipt::Sent);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        body = hearing => assert_eq!(body, "beat"),
        () = beating => {}
    }
    let mut late = engine.subscribe(topic);
    assert_eq!(synced(&mut late).await, []);
}

async fn a_resync_delivers_everything_once_more(engine: &dyn Fleet) {
    let mut heard = engine.subscribe(Topic::Decisions);
    let before = synced(&mut heard).await.len();
    engine.resync(Topic::Decisions);
    let gap = async { while heard.recv().await.unwrap() != Delivery::Gap {} };
    timeout(LONG, gap).await.unwrap();
    assert!(synced(&mut heard).await.len() >= before.min(2));
}

async fn blobs_are_found_by_their_hash(engine: &dyn Fleet) {
    let bytes = Bytes::from(vec![7u8; 300_000]);
    let hash = engine.blob_put(bytes.clone()).await.unwrap();
    assert_eq!(hash, BlobHash::of(&bytes));
    assert_eq!(engine.blob_get(hash.clone()).await.unwrap(), Some(bytes));
    assert_eq!(BlobHash::parse(hash.as_str()), Some(hash.clone()));
    engine.blob_forget(hash.clone()).await.unwrap();
    assert_eq!(engine.blob_get(hash.clone()).await.unwrap(), None);
    engine.blob_forget(hash).await.unwrap();
    assert_eq!(engine.blob_get(BlobHash::of(b"nothing")).await.unwrap(), None);
}

async fn a_lease_is_renewed_with_a_higher_token(engine: &dyn Fleet) {
    let first = engine.lease("job", Duration::from_secs(2)).await.unwrap().unwrap();
    let second = engine.lease("job", Duration::from_secs(2)).await.unwrap().unwrap();
    assert!(second.token > first.token && second.until_ms >= first.until_ms);
}

async fn what_is_forgotten_is_not_kept_here(engine: &dyn Fleet, store: &Store) {
    engine.publish(put("gone", 5, "w")).await.unwrap();
    engine.forget("phx.dec.fra.a.ban.gone", 4);
    engine.publish(put("other", 1, "v")).await.unwrap();
    let subjects = || store.records("phx.dec.").unwrap().0.into_iter().map(|kept| kept.subject);
    assert!(subjects().any(|subject| subject.ends_with("gone")), "a newer version is not forgotten");
    engine.forget("phx.dec.fra.a.ban.gone", 5);
    engine.publish(put("other", 2, "v")).await.unwrap();
    assert!(!subjects().any(|subject| subject.ends_with("gone")));
}

async fn records_outlive_a_restart(engine: &dyn Fleet, store: &Store) {
    assert!(store.records("phx.dec.").unwrap().0.iter().any(|kept| kept.own && kept.bytes == b"z"));
    let mut heard = engine.subscribe(Topic::Decisions);
    assert!(synced(&mut heard).await.iter().any(|(_, body)| body == "z"));
}

fn bench(on: Ground) -> Bench {
    Bench { folder: tempfile::tempdir().unwrap(), sealer: Arc::new(Sealer::ephemeral().unwrap()), on }
}

fn author() -> Author {
    Author { site: "fra".into(), node: "a".into(), role: AuthorRole::Node }
}

fn put(name: &str, version: u64, body: &'static str) -> Put {
    Put {
        topic: Topic::Decisions,
        subject: format!("phx.dec.fra.a.ban.{name}"),
        version,
        expires_at_ms: SystemClock.now_ms() + 60_000,
        bytes: Bytes::from_static(body.as_bytes()),
        speed: Speed::Both,
    }
}

/// What is delivered until the past has been read.
async fn synced(heard: &mut mpsc::Receiver<Delivery>) -> Vec<(String, String)> {
    let mut past = Vec::new();
    loop {
        match timeout(LONG, heard.recv()).await.unwrap().unwrap() {
            Delivery::Put { subject, bytes } => {
                past.push((subject.to_string(), String::from_utf8(bytes.to_vec()).unwrap()));
            }
            Delivery::Synced => return past,
            Delivery::Gap | Delivery::Link(_) => {}
        }
    }
}

async fn record(heard: &mut mpsc::Receiver<Delivery>, wanted: &str) -> String {
    loop {
        if let Delivery::Put { subject, bytes } = timeout(LONG, heard.recv()).await.unwrap().unwrap()
            && *subject == *wanted
        {
            return String::from_utf8(bytes.to_vec()).unwrap();
        }
    }
}

const LONG: Duration = Duration::from_secs(20);
